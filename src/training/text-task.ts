import { basename } from 'node:path';
import * as v from 'valibot';
import { UsageError } from '../errors.js';
import { checkShape } from '../files/json.js';
import { BatchSampler, sequentialBatches } from '../data/batch-sampler.js';
import { repeatedBigrams } from '../data/associative-recall.js';
import type { Corpus, Split, TextPiece } from '../data/corpus.js';
import { cachedTokens } from '../data/token-cache.js';
import { tokenize } from '../data/token-store.js';
import type { TokenStore } from '../data/token-store.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { Json } from '../results/canonical.js';
import { windowBatch } from './task.js';
import type { Batch, HeldOutBatch, HeldOutSource, Stage, TrainingTask } from './task.js';

const COUNT = v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(0));
const CURSORS = v.array(v.object({ epoch: COUNT, window: COUNT }));

export interface TextTaskOptions {
  readonly corpus: Corpus;
  /** Texts to measure on; none: what the corpus itself holds out. */
  readonly heldOut?: readonly Corpus[];
  readonly tokenizer: Tokenizer;
  readonly stages: readonly Stage[];
  readonly seed: number;
  /** Held-out tokens the loss is measured on, at most, of each text. */
  readonly evalTokens: number;
}

/** Next-token prediction on a corpus: every window once per epoch, in a fresh random order. */
export class TextTask implements TrainingTask {
  readonly name = 'text';
  readonly stages: readonly Stage[];
  readonly identity: Json;
  readonly inputs: Readonly<Record<string, string>>;
  private readonly train: TokenStore;
  readonly sources: readonly HeldOutSource[];
  private readonly tests: readonly TokenStore[];
  private readonly samplers: readonly BatchSampler[];

  /** Encodes the corpus. @throws UsageError where it is shorter than one sequence */
  constructor(private readonly options: TextTaskOptions) {
    const { corpus, heldOut = [], tokenizer, stages, seed, evalTokens } = options;
    this.stages = stages;
    this.inputs = Object.fromEntries([corpus, ...heldOut].map(({ name, sha256 }) => [name, sha256]));
    this.identity = {
      task: this.name,
      corpus: corpus.sha256,
      tokenizer: tokenizer.name,
      stages: stages.map(({ steps, batch, length }) => ({ steps, batch, length })),
      seed,
      evalTokens,
      ...(heldOut.length > 0 ? { heldOut: heldOut.map(({ sha256 }) => sha256) } : {}),
    };
    this.train = cachedTokens(corpus, heldOut.length > 0 ? 'all' : 'train', tokenizer);
    const tests = (heldOut.length > 0 ? heldOut : [corpus]).map((text) =>
      encoded(text, heldOut.length > 0 ? 'all' : 'held-out', tokenizer),
    );
    this.tests = tests.map(({ tokens }) => tokens);
    this.sources = tests.map(({ source }) => source);
    requireOwnNames(this.sources);
    this.samplers = stages.map(
      ({ batch, length }, index) =>
        new BatchSampler({ tokens: this.train, batch, length, seed: `${seed}/text/${index}` }),
    );
  }

  next(stage: number): Batch {
    const sampler = this.samplers[stage];
    if (sampler === undefined) throw new RangeError(`there is no stage ${stage}`);
    return windowBatch(sampler.next(), this.options.stages[stage]?.batch ?? 1);
  }

  state(): Json {
    return this.samplers.map((sampler) => ({ ...sampler.cursor() }));
  }

  restore(state: Json): void {
    const cursors = checkShape('the data cursor of the checkpoint', state, CURSORS);
    if (cursors.length !== this.samplers.length) {
      throw new UsageError('the data cursor of the checkpoint is not one of this task');
    }
    for (const [index, cursor] of cursors.entries()) this.samplers[index]?.seek(cursor);
  }

  *heldOut(): Generator<HeldOutBatch> {
    const last = this.stages.at(-1);
    if (last === undefined) return;
    const { batch } = last;
    for (const [source, tokens] of this.tests.entries()) {
      // A held-out text shorter than the training sequences is still worth measuring on.
      const length = Math.min(last.length, tokens.length - 1);
      const limit = Math.max(1, Math.floor(this.options.evalTokens / length));
      for (const windows of sequentialBatches(tokens, { batch, length, limit })) {
        const repeated = repeatedTargets(windows.tokens, windows.rows);
        yield { ...windowBatch(windows.tokens, windows.rows), repeated, source };
      }
    }
  }

  dispose(): void {
    this.train.dispose();
    for (const tokens of this.tests) tokens.dispose();
  }
}

/** Results are kept by name. */
function requireOwnNames(sources: readonly HeldOutSource[]): void {
  const names = sources.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice === undefined) return;
  throw new UsageError(`two held-out texts are called '${twice}': give one of the files another name`);
}

/** The tokens of a text to measure on, and how many bytes they stand for. */
function encoded(
  text: Corpus,
  split: Split,
  tokenizer: Tokenizer,
): { tokens: TokenStore; source: HeldOutSource } {
  let bytes = 0;
  function* counted(): Generator<TextPiece> {
    for (const piece of text.pieces(split)) {
      bytes += Buffer.byteLength(piece.text);
      yield piece;
    }
  }
  const tokens = tokenize(counted(), tokenizer);
  return { tokens, source: { name: basename(text.name), bytesPerToken: bytes / Math.max(1, tokens.length) } };
}

/** Of windows [rows, length + 1], whether each target has followed its predecessor before in its row: [rows, length]. */
function repeatedTargets(windows: Int32Array, rows: number): Uint8Array {
  const width = windows.length / rows;
  const flags = new Uint8Array(rows * (width - 1));
  for (let row = 0; row < rows; row++) {
    const window = windows.subarray(row * width, (row + 1) * width);
    flags.set(repeatedBigrams(window).subarray(1), row * (width - 1));
  }
  return flags;
}
