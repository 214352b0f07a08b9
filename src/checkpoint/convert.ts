import { existsSync, lstatSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { UsageError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import { lockDirectory } from '../files/lock.js';
import { recoverDirectory, writeDirectory } from '../files/staging.js';
import { CHECKPOINT_FILES, checkpointFiles } from './checkpoint-files.js';
import { elementCount } from './data-type.js';
import { GGUF_FILE } from './formats/gguf.js';
import { isLeftOut } from './formats/gguf-tokenizer-fields.js';
import { requireOwnTokenizer } from './formats/tokenizer-files.js';
import { storedBytes, TensorSource } from './tensor-source.js';
import type { TensorInfo } from './tensor-source.js';
import { FORMATS, openCheckpoint, stepDirectories } from './open.js';
import type { Checkpoint, FormatName, WriteOptions } from './open.js';

export interface ConvertOptions extends WriteOptions {
  readonly to: FormatName;
  /** Tokens the model was trained on at once, where the source does not say or is wrong. */
  readonly context?: number;
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
  /** What the source leaves open, and what follows for the destination. */
  readonly remarks: readonly string[];
  readonly tensors: number;
  /** Elements of all tensors. */
  readonly parameters: number;
  /** Of all tensors as they were stored in the source. */
  readonly sourceBytes: number;
  /** Of the files in the destination. */
  readonly writtenBytes: number;
}

/**
 * Refuses a destination that would cost the source its files: the source, what contains it, or where its files are.
 * Links are followed on both sides.
 */
function checkSource(source: string, destination: string): void {
  if (!existsSync(destination)) return;
  const target = realpathSync(destination);
  if (realpathSync(source) === target) {
    throw new UsageError(`the destination ${destination} is the source: give another directory`);
  }
  const files = statSync(source).isDirectory() ? readdirSync(source).map((name) => join(source, name)) : [];
  const within = [source, ...files].find((path) => existsSync(path) && isWithin(target, realpathSync(path)));
  if (within !== undefined) {
    throw new UsageError(
      `${within} of the source is in the destination ${destination}: give another directory`,
    );
  }
}

const isWithin = (directory: string, path: string): boolean => path.startsWith(directory + sep);

/** What the destination holds may be replaced only where it is a checkpoint, and only when asked. */
function checkDestination(destination: string, overwrite: boolean): void {
  if (!existsSync(destination)) {
    const link = lstatSync(destination, { throwIfNoEntry: false });
    if (link !== undefined)
      throw new UsageError(`${destination} is a link to nothing: give another directory`);
    return;
  }
  if (!statSync(destination).isDirectory()) throw new UsageError(`${destination} is a file, not a directory`);
  if (readdirSync(destination).every((name) => name === `${LOCK}.lock`)) return;
  if (!overwrite) {
    throw new UsageError(
      `${destination} is not empty: give another directory, or --overwrite to replace the checkpoint in it`,
    );
  }
  if (stepDirectories(destination).length > 0) {
    throw new UsageError(
      `${destination} is a training run, which is not overwritten: give another directory`,
    );
  }
  const { names, hasWeights } = checkpointFiles(destination);
  const [first] = names;
  if (first !== undefined && !hasWeights) {
    throw new UsageError(
      `${join(destination, first)} belongs to no checkpoint and is not overwritten: give another directory`,
    );
  }
}

const LOCK = 'convert';

/** One conversion at a time into a directory: the lock is in it, or beside the place where it will be. */
function lockDestination(destination: string): () => void {
  const options = { doing: 'converting a checkpoint' };
  return existsSync(destination)
    ? lockDirectory(destination, LOCK, options)
    : lockDirectory(dirname(destination), basename(destination), options);
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

/** Transformers has a default where config.json has no context length, and cuts texts to it. */
function contextRemarks(to: FormatName, context: number | null, config: ModelConfig): string[] {
  if (to !== 'huggingface' || context !== null || config.architecture !== 'transformer') return [];
  const assumed = config.slidingWindow === null ? '2,048' : '131,072';
  return [
    `the source does not say for how many tokens the model was made: config.json has no max_position_embeddings, for which ` +
      `transformers takes ${assumed}; --context writes it`,
  ];
}

/** What a GGUF file cannot say about its tokenizer. */
function tokenizerRemarks(to: FormatName, checkpoint: Checkpoint): string[] {
  if (to !== 'gguf' || !isLeftOut(checkpoint)) return [];
  return [
    `GGUF has no kind of tokenizer that gives the ids of ${checkpoint.tokenizer ?? ''}: it is left out, and llama.cpp ` +
      `runs the model on ids alone`,
  ];
}

function checkOptions(
  destination: string,
  { to, context, quantization }: Pick<ConvertOptions, 'to' | 'context' | 'quantization'>,
): void {
  if (context !== undefined && to === 'meta') {
    throw new UsageError("Meta's layout has no field for the context length: leave it out (--context)");
  }
  if (quantization !== undefined && to !== 'gguf') {
    throw new UsageError(`only GGUF files hold ${quantization}: use --to gguf, or another --dtype`);
  }
  if (to === 'gguf' && destination.endsWith('.gguf')) {
    throw new UsageError(
      `the destination ${destination} is a directory, in which the file is ${GGUF_FILE}: give a name without .gguf`,
    );
  }
}

const bytesIn = (directory: string): number =>
  readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);

/**
 * Rewrites a checkpoint in another format, a few megabytes at a time. Tensors keep their type and their bits unless
 * `dtype` asks for another. The destination appears when it is complete; in one that exists only files of a checkpoint are
 * replaced, and only with `overwrite`.
 * @throws UsageError where the destination is taken or the format cannot express the model, RunError otherwise
 */
export async function convertCheckpoint(
  source: string,
  destination: string,
  { to, overwrite = false, onProgress, context: givenContext, ...options }: ConvertOptions,
): Promise<Conversion> {
  const checkpoint = openCheckpoint(source);
  try {
    const format = FORMATS.find(({ name }) => name === to);
    if (format === undefined) throw new UsageError(`unknown format '${to}'`);
    const { config, tokenizer, tensors } = checkpoint;
    checkOptions(destination, { to, context: givenContext, ...options });
    requireOwnTokenizer(tokenizer);
    const infos = tensors.names().map((name) => ({ name, ...tensors.info(name) }));
    const bytes = infos.reduce((sum, info) => sum + storedBytes(info), 0);
    const context = givenContext ?? checkpoint.context;
    const watched = {
      ...checkpoint,
      context,
      tensors: new WatchedSource(tensors, (read) => onProgress?.(Math.min(read, bytes), bytes)),
    };
    await write(checkpoint.directory, resolve(destination), overwrite, (directory) =>
      format.write(directory, watched, options),
    );
    const parameters = infos.reduce((sum, { shape }) => sum + (elementCount(shape) ?? 0), 0);
    const remarks = [
      ...(checkpoint.remarks ?? []),
      ...contextRemarks(to, context, config),
      ...tokenizerRemarks(to, checkpoint),
    ];
    return {
      ...{ from: checkpoint.format.name, to, config, tokenizer, remarks },
      ...{ tensors: infos.length, parameters, sourceBytes: bytes, writtenBytes: bytesIn(destination) },
    };
  } finally {
    checkpoint.tensors.close();
  }
}

async function write(
  source: string,
  destination: string,
  overwrite: boolean,
  fill: (directory: string) => Promise<void>,
): Promise<void> {
  checkSource(source, destination);
  if (existsSync(destination) && !statSync(destination).isDirectory())
    checkDestination(destination, overwrite);
  const unlock = lockDestination(destination);
  try {
    recoverDirectory(destination, CHECKPOINT_FILES);
    checkDestination(destination, overwrite);
    await writeDirectory(destination, CHECKPOINT_FILES, fill);
  } finally {
    unlock();
  }
}
