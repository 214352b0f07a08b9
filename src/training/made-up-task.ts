import * as v from 'valibot';
import { checkShape } from '../files/json.js';
import type { Json } from '../results/canonical.js';
import type { RecipeStage } from './recipe.js';
import type { Batch, HeldOutBatch, TrainingTask } from './task.js';

const CURSOR = v.object({
  batches: v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(0)),
});

/** What batches are drawn for. */
export type Part = 'train' | 'held-out';

/**
 * A task whose every batch is made up afresh, from random numbers of its own that are named by its part and index: how many were
 * made is all there is to remember.
 */
export abstract class MadeUpTask implements TrainingTask {
  abstract readonly name: string;
  abstract readonly identity: Json;
  abstract readonly inputs: Readonly<Record<string, string>>;
  readonly sources = [];
  private batches = 0;

  /** @param evalTokens tokens of the held-out batches, at most (one batch at least) */
  protected constructor(
    readonly stages: readonly RecipeStage[],
    private readonly evalTokens: number,
  ) {}

  /** The batch of this index, counted over all stages. */
  protected abstract make(stage: RecipeStage, part: Part, index: number): Batch;

  next(index: number): Batch {
    const stage = this.stages[index];
    if (stage === undefined) throw new RangeError(`there is no stage ${index}`);
    return this.make(stage, 'train', this.batches++);
  }

  progress(): readonly [] {
    return [];
  }

  state(): Json {
    return { batches: this.batches };
  }

  restore(state: Json): void {
    this.batches = checkShape('the data cursor of the checkpoint', state, CURSOR).batches;
  }

  *heldOut(): Generator<HeldOutBatch> {
    const last = this.stages.at(-1);
    if (last === undefined) return;
    const count = Math.max(1, Math.floor(this.evalTokens / (last.batch * last.length)));
    for (let index = 0; index < count; index++) yield { ...this.make(last, 'held-out', index), source: 0 };
  }

  dispose(): void {
    // Nothing but memory to give back.
  }
}
