import * as v from 'valibot';
import {
  RECALL_TASKS,
  requireSequences,
  type RecallExample,
  type RecallTaskName,
} from '../data/recall/index.js';
import { checkShape } from '../files/json.js';
import { Random } from '../random.js';
import type { Json } from '../results/canonical.js';
import type { RecipeStage } from './recipe.js';
import type { Batch, HeldOutBatch, TrainingTask } from './task.js';

const CURSOR = v.object({
  batches: v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(0)),
});

export interface RecallTaskOptions {
  readonly task: RecallTaskName;
  readonly vocabSize: number;
  readonly stages: readonly RecipeStage[];
  readonly seed: number;
  /** Tokens of the held-out batches, at most (one batch at least). */
  readonly evalTokens: number;
}

/** A recall task as an objective: the mean loss of the answers alone. Every batch is made up afresh. */
export class RecallTraining implements TrainingTask {
  readonly name: string;
  readonly stages: readonly RecipeStage[];
  readonly identity: Json;
  readonly inputs = {};
  readonly sources = [];
  private batches = 0;

  /** @throws UsageError for stages that the task has no sequences for */
  constructor(private readonly options: RecallTaskOptions) {
    const { task, vocabSize, stages, seed, evalTokens } = options;
    for (const { length, minItems, maxItems } of stages)
      for (const items of [minItems, maxItems])
        requireSequences(RECALL_TASKS[task], { length, items, vocabSize });
    this.name = task;
    this.stages = stages;
    this.identity = {
      task,
      version: RECALL_TASKS[task].version,
      vocabSize,
      stages: stages.map(({ steps, batch, length, minItems, maxItems }) => ({
        ...{ steps, batch, length, minItems, maxItems },
      })),
      seed,
      evalTokens,
    };
  }

  next(index: number): Batch {
    const stage = this.stages[index];
    if (stage === undefined) throw new RangeError(`there is no stage ${index}`);
    return this.make(stage, this.random('train', this.batches++));
  }

  progress(): readonly [] {
    return [];
  }

  /** Every batch has random numbers of its own, named by its index: that is all there is to remember. */
  state(): Json {
    return { batches: this.batches };
  }

  restore(state: Json): void {
    this.batches = checkShape('the data cursor of the checkpoint', state, CURSOR).batches;
  }

  *heldOut(): Generator<HeldOutBatch> {
    const last = this.stages.at(-1);
    if (last === undefined) return;
    const count = Math.max(1, Math.floor(this.options.evalTokens / (last.batch * last.length)));
    for (let index = 0; index < count; index++)
      yield { ...this.make(last, this.random('held-out', index)), source: 0 };
  }

  dispose(): void {
    // Nothing but memory to give back.
  }

  private random(kind: string, index: number): Random {
    return new Random(`${this.options.seed}/recall/${this.name}/${kind}/${index}`);
  }

  private make(stage: RecipeStage, random: Random): Batch {
    const { batch, length, minItems, maxItems } = stage;
    const { task, vocabSize } = this.options;
    const examples = Array.from({ length: batch }, () => {
      const items = minItems + random.below(maxItems - minItems + 1);
      return RECALL_TASKS[task].make({ length, items, vocabSize }, random);
    });
    return recallBatch(examples, length);
  }
}

/** Rows must have equally many positions: those with fewer answers get others, with weight 0. */
export function recallBatch(examples: readonly RecallExample[], length: number): Batch {
  const rows = examples.length;
  const answered = examples.map(({ questions }) => ({
    at: questions.flatMap(({ positions }) => positions),
    tokens: questions.flatMap(({ answers }) => answers),
  }));
  const count = Math.max(...answered.map(({ at }) => at.length));
  const total = answered.reduce((sum, { at }) => sum + at.length, 0);
  const tokens = new Int32Array(rows * length);
  const targets = new Int32Array(rows * count);
  const answers = new Uint8Array(rows * count);
  const weights = new Float32Array(rows * count);
  const positions = answered.map(({ at, tokens: known }, row) => {
    tokens.set(examples[row]?.tokens ?? [], row * length);
    const targetOf = new Map(at.map((position, index) => [position, known[index] as number]));
    const chosen = Int32Array.from(filled(targetOf, count, length)).sort();
    chosen.forEach((position, column) => {
      const target = targetOf.get(position);
      if (target === undefined) return;
      targets[row * count + column] = target;
      answers[row * count + column] = 1;
      weights[row * count + column] = 1 / total;
    });
    return chosen;
  });
  return { rows, length, tokens, targets, positions, weights, answers };
}

/** The positions, and others from the end until there are `count`. */
function filled(known: ReadonlyMap<number, number>, count: number, length: number): Set<number> {
  const chosen = new Set(known.keys());
  for (let position = length - 1; chosen.size < count; position--) chosen.add(position);
  return chosen;
}
