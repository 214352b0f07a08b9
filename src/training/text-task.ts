import { basename } from 'node:path';
import { checkShape } from '../files/json.js';
import * as v from 'valibot';
import { UsageError } from '../errors.js';
import { sequentialBatches } from '../data/batch-sampler.js';
import { repeatedBigrams } from '../data/associative-recall.js';
import type { Corpus, Split } from '../data/corpus.js';
import { cachedTokens, type EncodedText } from '../data/token-cache.js';
import { tokenizerIdentity, tokenizerInputs, type Tokenizer } from '../data/tokenizer.js';
import type { Json } from '../results/canonical.js';
import type { TextStage } from './stages.js';
import { windowBatch } from './task.js';
import type { Batch, HeldOutBatch, HeldOutSource, SourceProgress, TrainingTask } from './task.js';
import { stageSampler, type EncodedSource, type StageSampler } from './text-sampler.js';

/** A text to train on or to measure on. */
export interface TextSource {
  /** Of a source of a mixture; null: it is called after its files. */
  readonly name: string | null;
  readonly corpus: Corpus;
  /** Share of the tokens trained on, against the sum of all; null: as many as the text has. */
  readonly weight: number | null;
}

export interface TextTaskOptions {
  readonly sources: readonly TextSource[];
  /** Texts to measure on; none: what the sources themselves hold out. */
  readonly heldOut?: readonly Omit<TextSource, 'weight'>[];
  readonly tokenizer: Tokenizer;
  readonly stages: readonly TextStage[];
  readonly seed: number;
  /** Held-out tokens the loss is measured on, at most, of each text. */
  readonly evalTokens: number;
}

const STATES = v.array(v.unknown());

/** Next-token prediction on texts: every window of a text once per epoch, in a fresh random order. */
export class TextTask implements TrainingTask {
  readonly name = 'text';
  readonly stages: readonly TextStage[];
  readonly identity: Json;
  readonly inputs: Readonly<Record<string, string>>;
  readonly sources: readonly HeldOutSource[];
  private readonly texts: readonly EncodedSource[];
  private readonly tests: readonly EncodedText[];
  private readonly samplers: readonly StageSampler[];

  /** Encodes the texts. @throws UsageError where one is shorter than one sequence, or two held-out texts have one name */
  constructor(private readonly options: TextTaskOptions) {
    const { sources, heldOut = [], tokenizer, stages, seed } = options;
    const measured = heldOut.length > 0 ? heldOut : sources;
    const testSplit: Split = heldOut.length > 0 ? 'all' : 'held-out';
    requireOwnNames(measured.map(nameOf));
    this.stages = stages;
    const texts = [...sources, ...heldOut].map(({ name, corpus }): [string, string] => [
      name === null ? corpus.name : `${name}: ${corpus.name}`,
      corpus.sha256,
    ]);
    this.inputs = { ...Object.fromEntries(texts), ...tokenizerInputs(tokenizer) };
    this.identity = identityOf(options);
    const split = heldOut.length > 0 ? 'all' : 'train';
    const encoded = sources.map(({ corpus }) => cachedTokens(corpus, split, tokenizer));
    this.texts = encoded.map((text, index) => {
      const { weight } = sources[index] as TextSource;
      const share = weight ?? text.tokens.length;
      return {
        name: nameOf(sources[index] as TextSource),
        ...text,
        share,
        bytesPerToken: bytesPerToken(text),
      };
    });
    this.tests = measured.map(({ corpus }) => cachedTokens(corpus, testSplit, tokenizer));
    this.sources = measured.map((source, index) => ({
      name: nameOf(source),
      bytesPerToken: bytesPerToken(this.tests[index] as EncodedText),
    }));
    this.samplers = stages.map((stage, index) =>
      stageSampler({ stage, sources: this.texts, tokenizer, seed: `${seed}/text/${index}` }),
    );
  }

  next(stage: number): Batch {
    const sampler = this.samplers[stage];
    if (sampler === undefined) throw new RangeError(`there is no stage ${stage}`);
    return sampler.next();
  }

  progress(): SourceProgress[] {
    const total = this.texts.reduce((sum, { share }) => sum + share, 0);
    return this.texts.map(({ name, tokens, share }, index) => {
      const drawn = this.samplers.reduce((sum, sampler) => sum + (sampler.drawn[index] ?? 0), 0);
      return { source: name, tokens: drawn, share: share / total, epochs: drawn / tokens.length };
    });
  }

  state(): Json {
    return this.samplers.map((sampler) => sampler.state());
  }

  restore(state: Json): void {
    const states = checkShape('the data cursor of the checkpoint', state, STATES);
    if (states.length !== this.samplers.length) {
      throw new UsageError('the data cursor of the checkpoint is not one of this task');
    }
    this.samplers.forEach((sampler, index) => {
      sampler.restore(states[index] as Json);
    });
  }

  *heldOut(): Generator<HeldOutBatch> {
    const last = this.stages.at(-1);
    if (last === undefined) return;
    const { batch } = last;
    for (const [source, { tokens }] of this.tests.entries()) {
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
    for (const { tokens } of [...this.texts, ...this.tests]) tokens.dispose();
  }
}

const nameOf = ({ name, corpus }: Pick<TextSource, 'name' | 'corpus'>): string =>
  name ?? basename(corpus.name);

/** Of UTF-8 text, end-of-text tokens included among the tokens. */
const bytesPerToken = ({ tokens, bytes }: EncodedText): number => bytes / Math.max(1, tokens.length);

/** Everything that determines the batches. */
function identityOf({ sources, heldOut = [], tokenizer, stages, seed, evalTokens }: TextTaskOptions): Json {
  const [first] = sources;
  const single = sources.length === 1 && first?.name === null ? first : null;
  const described = sources.map(({ name, corpus, weight }) => ({ name, sha256: corpus.sha256, weight }));
  return {
    task: 'text',
    ...(single === null ? { sources: described } : { corpus: single.corpus.sha256 }),
    tokenizer: tokenizerIdentity(tokenizer),
    stages: stages.map(({ steps, batch, length, documents, longDocuments }) => ({
      ...{ steps, batch, length },
      ...(documents === undefined ? {} : { documents }),
      ...(longDocuments === undefined ? {} : { longDocuments }),
    })),
    ...{ seed, evalTokens },
    ...(heldOut.length > 0 ? { heldOut: heldOut.map(({ corpus }) => corpus.sha256) } : {}),
  };
}

/** Results are kept by name. */
function requireOwnNames(names: readonly string[]): void {
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice === undefined) return;
  throw new UsageError(`two held-out texts are called '${twice}': give one of the files another name`);
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
