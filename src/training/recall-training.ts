import {
  RECALL_TASKS,
  requireSequences,
  type RecallExample,
  type RecallTaskName,
} from '../data/recall/index.js';
import { Random } from '../random.js';
import type { Json } from '../results/canonical.js';
import { MadeUpTask, type Part } from './made-up-task.js';
import type { RecipeStage } from './recipe.js';
import type { Batch } from './task.js';

export interface RecallTaskOptions {
  readonly task: RecallTaskName;
  readonly vocabSize: number;
  readonly stages: readonly RecipeStage[];
  readonly seed: number;
  /** Tokens of the held-out batches, at most (one batch at least). */
  readonly evalTokens: number;
}

/** A recall task as an objective: the mean loss of the answers alone. */
export class RecallTraining extends MadeUpTask {
  readonly name: string;
  readonly identity: Json;
  readonly inputs = {};

  /** @throws UsageError for stages that the task has no sequences for */
  constructor(private readonly options: RecallTaskOptions) {
    const { task, vocabSize, stages, seed, evalTokens } = options;
    super(stages, evalTokens);
    for (const { length, minItems, maxItems } of stages)
      for (const items of [minItems, maxItems])
        requireSequences(RECALL_TASKS[task], { length, items, vocabSize });
    this.name = task;
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

  protected make(stage: RecipeStage, part: Part, index: number): Batch {
    const { batch, length, minItems, maxItems } = stage;
    const { task, vocabSize, seed } = this.options;
    const random = new Random(`${seed}/recall/${this.name}/${part}/${index}`);
    const examples = Array.from({ length: batch }, () => {
      const items = minItems + random.below(maxItems - minItems + 1);
      return RECALL_TASKS[task].make({ length, items, vocabSize }, random);
    });
    return recallBatch(examples, length);
  }
}

/** Rows must have equally many positions: those with fewer answers get others, with weight 0. */
function recallBatch(examples: readonly RecallExample[], length: number): Batch {
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
