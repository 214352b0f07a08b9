import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { UsageError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import { elementCount } from './data-type.js';
import { replaceDirectory } from './files.js';
import { storedBytes, TensorSource } from './tensor-source.js';
import type { TensorInfo } from './tensor-source.js';
import { FORMATS, openCheckpoint } from './open.js';
import type { FormatName, WriteOptions } from './open.js';

export interface ConvertOptions extends WriteOptions {
  readonly to: FormatName;
  /** Replace what the destination holds. */
  readonly overwrite?: boolean;
  /** Called after each piece with the bytes read so far and in all. */
  readonly onProgress?: (bytes: number, total: number) => void;
}

export interface Conversion {
  readonly from: FormatName;
  readonly to: FormatName;
  readonly config: ModelConfig;
  readonly tokenizer: string | null;
  readonly tensors: number;
  /** Elements of all tensors. */
  readonly parameters: number;
  /** Bytes of all tensors as they were stored in the source. */
  readonly bytes: number;
}

function checkDestination(source: string, destination: string, overwrite: boolean): void {
  if (!existsSync(destination)) return;
  if (!statSync(destination).isDirectory()) throw new UsageError(`${destination} is a file, not a directory`);
  if (realpathSync(source) === realpathSync(destination)) {
    throw new UsageError(`the destination ${destination} is the source: give another directory`);
  }
  if (readdirSync(destination).length > 0 && !overwrite) {
    throw new UsageError(`${destination} is not empty: give another directory, or --overwrite to replace it`);
  }
}

/** The same tensors, with a count of the bytes read. */
class WatchedSource extends TensorSource {
  private total = 0;

  constructor(
    private readonly source: TensorSource,
    private readonly onRead: (bytes: number) => void,
  ) {
    super();
  }

  get path(): string {
    return this.source.path;
  }

  names(): readonly string[] {
    return this.source.names();
  }

  has(name: string): boolean {
    return this.source.has(name);
  }

  info(name: string): TensorInfo {
    return this.source.info(name);
  }

  readInto(name: string, offset: number, target: Uint8Array): void {
    this.source.readInto(name, offset, target);
    this.total += target.byteLength;
    this.onRead(this.total);
  }

  close(): void {
    this.source.close();
  }
}

/**
 * Rewrites a checkpoint in another format, a few megabytes at a time. Tensors keep their type and their bits unless
 * `dtype` asks for another. The destination appears when it is complete.
 * @throws UsageError where the destination is taken or the format cannot express the model, RunError otherwise
 */
export async function convertCheckpoint(
  source: string,
  destination: string,
  { to, overwrite = false, onProgress, ...options }: ConvertOptions,
): Promise<Conversion> {
  const checkpoint = openCheckpoint(source);
  try {
    checkDestination(source, destination, overwrite);
    const format = FORMATS.find(({ name }) => name === to);
    if (format === undefined) throw new UsageError(`unknown format '${to}'`);
    const { config, tokenizer, tensors } = checkpoint;
    const infos = tensors.names().map((name) => ({ name, ...tensors.info(name) }));
    const bytes = infos.reduce((sum, info) => sum + storedBytes(info), 0);
    const watched = {
      ...checkpoint,
      tensors: new WatchedSource(tensors, (read) => onProgress?.(Math.min(read, bytes), bytes)),
    };
    await replaceDirectory(resolve(destination), (directory) => format.write(directory, watched, options));
    const parameters = infos.reduce((sum, { shape }) => sum + (elementCount(shape) ?? 0), 0);
    return { from: checkpoint.format.name, to, config, tokenizer, tensors: infos.length, parameters, bytes };
  } finally {
    checkpoint.tensors.close();
  }
}
