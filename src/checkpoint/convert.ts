import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { UsageError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import { replaceDirectory } from './files.js';
import { storedBytes } from './tensor-source.js';
import { FORMATS, openCheckpoint } from './open.js';
import type { FormatName, WriteOptions } from './open.js';

export interface ConvertOptions extends WriteOptions {
  readonly to: FormatName;
  /** Replace what the destination holds. */
  readonly overwrite?: boolean;
}

export interface Conversion {
  readonly from: FormatName;
  readonly to: FormatName;
  readonly config: ModelConfig;
  readonly tokenizer: string | null;
  readonly tensors: number;
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

/**
 * Rewrites a checkpoint in another format, one tensor at a time. Tensors keep their type and their bits unless
 * `dtype` asks for another. The destination appears when it is complete.
 * @throws UsageError where the destination is taken or the format cannot express the model, RunError otherwise
 */
export async function convertCheckpoint(
  source: string,
  destination: string,
  { to, overwrite = false, ...options }: ConvertOptions,
): Promise<Conversion> {
  const checkpoint = openCheckpoint(source);
  try {
    checkDestination(source, destination, overwrite);
    const format = FORMATS.find(({ name }) => name === to);
    if (format === undefined) throw new UsageError(`unknown format '${to}'`);
    await replaceDirectory(resolve(destination), (directory) => format.write(directory, checkpoint, options));
    const { config, tokenizer, tensors } = checkpoint;
    const names = tensors.names();
    const bytes = names.reduce((sum, name) => sum + storedBytes({ name, ...tensors.info(name) }), 0);
    return { from: checkpoint.format.name, to, config, tokenizer, tensors: names.length, bytes };
  } finally {
    checkpoint.tensors.close();
  }
}
