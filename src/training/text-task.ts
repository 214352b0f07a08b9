import * as v from 'valibot';
import { UsageError } from '../errors.js';
import { checkShape } from '../files/json.js';
import { BatchSampler, sequentialBatches } from '../data/batch-sampler.js';
import type { Corpus } from '../data/corpus.js';
import { tokenize } from '../data/token-store.js';
import type { TokenStore } from '../data/token-store.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { Json } from '../results/canonical.js';
import { windowBatch } from './task.js';
import type { Batch, Stage, TrainingTask } from './task.js';

const COUNT = v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(0));
const CURSORS = v.array(v.object({ epoch: COUNT, window: COUNT }));

export interface TextTaskOptions {
  readonly corpus: Corpus;
  readonly tokenizer: Tokenizer;
  readonly stages: readonly Stage[];
  readonly seed: number;
  /** Held-out tokens the loss is measured on, at most. */
  readonly evalTokens: number;
}

/** Next-token prediction on a corpus: every window once per epoch, in a fresh random order. */
export class TextTask implements TrainingTask {
  readonly name = 'text';
  readonly stages: readonly Stage[];
  readonly identity: Json;
  readonly inputs: Readonly<Record<string, string>>;
  private readonly train: TokenStore;
  private readonly test: TokenStore;
  private readonly samplers: readonly BatchSampler[];

  /** Encodes the corpus. @throws UsageError where it is shorter than one sequence */
  constructor(private readonly options: TextTaskOptions) {
    const { corpus, tokenizer, stages, seed, evalTokens } = options;
    this.stages = stages;
    this.inputs = { [corpus.name]: corpus.sha256 };
    this.identity = {
      task: this.name,
      corpus: corpus.sha256,
      tokenizer: tokenizer.name,
      stages: stages.map(({ steps, batch, length }) => ({ steps, batch, length })),
      seed,
      evalTokens,
    };
    this.train = tokenize(corpus.pieces('train'), tokenizer);
    this.test = tokenize(corpus.pieces('held-out'), tokenizer);
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

  *heldOut(): Generator<Batch> {
    const last = this.stages.at(-1);
    if (last === undefined) return;
    const { batch } = last;
    // A held-out text shorter than the training sequences is still worth measuring on.
    const length = Math.min(last.length, this.test.length - 1);
    const limit = Math.max(1, Math.floor(this.options.evalTokens / length));
    for (const { tokens, rows } of sequentialBatches(this.test, { batch, length, limit })) {
      yield windowBatch(tokens, rows);
    }
  }

  dispose(): void {
    this.train.dispose();
    this.test.dispose();
  }
}
