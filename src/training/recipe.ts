/** A training run as data: what to learn from, for how long, and how; the same for flags and experiment files. */
import { UsageError } from '../errors.js';
import { readFields } from '../model/config-fields.js';
import type { FieldReader } from '../model/config-fields.js';
import { INITIAL_VALUE_NAMES, type InitialValues } from '../model/index.js';
import { DECAYS } from './schedule.js';
import type { Decay } from './schedule.js';
import type { Stage } from './task.js';
import { totalSteps } from './task.js';

export const TASKS = ['text', 'needle'] as const;
export type TaskName = (typeof TASKS)[number];

/** A stage of either task; the needle fields are those of `--task needle`. */
export interface RecipeStage extends Stage {
  /** Needles hidden in a sequence, drawn uniformly from minNeedles to maxNeedles. */
  readonly minNeedles: number;
  readonly maxNeedles: number;
  /** Loss on the answers only: the cross-decoder then runs at a few positions, whatever the length. */
  readonly answersOnly: boolean;
}

export interface Recipe {
  readonly task: TaskName;
  /** `sotu`, `moby-dick`, files, globs or directories. */
  readonly data: readonly string[];
  /** Texts to measure on, each apart; none: a part of the data. Named as the data are. */
  readonly heldOut: readonly string[];
  /** What `loadTokenizer` takes. */
  readonly tokenizer: string;
  readonly stages: readonly RecipeStage[];
  /** How weights start that no checkpoint brings. */
  readonly initialValues: InitialValues;
  readonly learningRate: number;
  readonly minLearningRate: number;
  readonly warmup: number;
  readonly decay: Decay;
  readonly weightDecay: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly clip: number;
  /** Micro-batches per step. */
  readonly accumulate: number;
  /** Steps between measurements of held-out loss; 0: at the end only. */
  readonly evalEvery: number;
  /** Held-out tokens it is measured on, at most. */
  readonly evalTokens: number;
  /** Steps between snapshots; 0: at the end only. */
  readonly checkpointEvery: number;
  readonly seed: number;
  /** Compute activations again in the backward pass: less memory, more time, the same numbers. */
  readonly recompute: boolean;
}

/** A recipe as a person writes it: all fields have defaults. `steps`, `batch`, `length` stand for one stage. */
export type RecipeInput = Partial<Omit<Recipe, 'stages'>> & {
  readonly stages?: readonly Partial<RecipeStage>[];
  readonly steps?: number;
  readonly batch?: number;
  readonly length?: number;
};

const FIELDS = [
  'task',
  'data',
  'heldOut',
  'initialValues',
  'tokenizer',
  'stages',
  'steps',
  'batch',
  'length',
  'learningRate',
  'minLearningRate',
  'warmup',
  'decay',
  'weightDecay',
  'beta1',
  'beta2',
  'epsilon',
  'clip',
  'accumulate',
  'evalEvery',
  'evalTokens',
  'checkpointEvery',
  'seed',
  'recompute',
] as const;

/** What differs between the tasks when nothing is said. */
interface TaskDefaults {
  readonly steps: number;
  readonly batch: number;
  readonly length: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly decay: Decay;
}

const DEFAULTS: Readonly<Record<TaskName, TaskDefaults>> = {
  text: { steps: 500, batch: 8, length: 256, learningRate: 2e-3, weightDecay: 0.1, decay: 'cosine' },
  needle: { steps: 1400, batch: 64, length: 768, learningRate: 2e-3, weightDecay: 0.05, decay: 'linear' },
};

/**
 * The stages by which a small model learned to retrieve: the circuit forms on short sequences with few needles and
 * then carries over; long sequences from the start had not formed it after 1,500 steps.
 */
function needleStages(steps: number): Partial<RecipeStage>[] {
  const half = Math.ceil(steps / 2);
  const stages = [
    { steps: half, batch: 64, length: 768, minNeedles: 2, maxNeedles: 4 },
    { steps: steps - half, batch: 32, length: 2048, minNeedles: 1, maxNeedles: 12 },
  ];
  return stages.filter((stage) => stage.steps > 0);
}

function readStage(fields: FieldReader, defaults: TaskDefaults): RecipeStage {
  const stage = {
    steps: fields.positiveInteger('steps', defaults.steps),
    batch: fields.positiveInteger('batch', defaults.batch),
    length: fields.positiveInteger('length', defaults.length),
    minNeedles: fields.positiveInteger('minNeedles', 1),
    maxNeedles: fields.positiveInteger('maxNeedles', Math.max(12, fields.positiveInteger('minNeedles', 1))),
    answersOnly: fields.boolean('answersOnly', false),
  };
  fields.rejectUnknown(Object.keys(stage));
  if (stage.minNeedles > stage.maxNeedles) {
    throw new UsageError(`minNeedles (${stage.minNeedles}) must not exceed maxNeedles (${stage.maxNeedles})`);
  }
  return stage;
}

function readStages(input: RecipeInput, task: TaskName, defaults: TaskDefaults): RecipeStage[] {
  const { stages, steps, batch, length } = input;
  if (stages === undefined) {
    const sized = batch !== undefined || length !== undefined;
    if (task === 'needle' && !sized) {
      return needleStages(readFields({ steps }).positiveInteger('steps', defaults.steps)).map((stage) =>
        readStage(readFields(stage), defaults),
      );
    }
    return [readStage(readFields({ steps, batch, length }), defaults)];
  }
  if (steps !== undefined || batch !== undefined || length !== undefined) {
    throw new UsageError('steps, batch and length are given by the stages: leave them out');
  }
  if (!Array.isArray(stages) || stages.length === 0)
    throw new UsageError('stages must be a list of at least one stage');
  return stages.map((stage: unknown, index) => {
    if (typeof stage !== 'object' || stage === null)
      throw new UsageError(`stages.${index} must be an object`);
    return readStage(readFields(stage, `stages.${index}.`), defaults);
  });
}

function nonNegative(name: string, value: unknown, fallback: number, integer = false): number {
  const found = value ?? fallback;
  const valid = typeof found === 'number' && Number.isFinite(found) && found >= 0;
  if (!valid || (integer && !Number.isSafeInteger(found))) {
    throw new UsageError(
      `${name} must be ${integer ? 'a whole number' : 'a number'} from 0 up, found ${JSON.stringify(found)}`,
    );
  }
  return found;
}

function below1(name: string, value: unknown, fallback: number): number {
  const found = nonNegative(name, value, fallback);
  if (found >= 1) throw new UsageError(`${name} must be below 1, found ${found}`);
  return found;
}

function text(name: string, value: unknown, fallback: string): string {
  const found = value ?? fallback;
  if (typeof found === 'string' && found !== '') return found;
  throw new UsageError(`${name} must be a text, found ${JSON.stringify(found)}`);
}

function texts(name: string, value: unknown, fallback: readonly string[]): readonly string[] {
  const list = value ?? fallback;
  if (Array.isArray(list) && list.length > 0 && list.every((item) => typeof item === 'string')) return list;
  throw new UsageError(`${name} must be a list of texts, found ${JSON.stringify(list)}`);
}

/** The tokens of a run are counted in its log. */
function requireCountable(stages: readonly RecipeStage[], accumulate: number): void {
  const tokens = stages.reduce((sum, { steps, batch, length }) => sum + steps * batch * length, 0);
  if (Number.isSafeInteger(tokens * accumulate)) return;
  throw new UsageError(
    `a run of ${(tokens * accumulate).toPrecision(3)} tokens is more than can be counted: take fewer steps, or less of batch, length or accumulate`,
  );
}

/**
 * Completes and checks a recipe.
 * @throws UsageError naming the field and what it may be
 */
export function createRecipe(input: RecipeInput = {}): Recipe {
  const fields = readFields(input);
  fields.rejectUnknown(FIELDS);
  const task = fields.choice('task', TASKS, 'text');
  const defaults = DEFAULTS[task];
  const stages = readStages(input, task, defaults);
  const steps = totalSteps(stages);
  const accumulate = fields.positiveInteger('accumulate', 1);
  requireCountable(stages, accumulate);
  const learningRate = fields.positiveNumber('learningRate', defaults.learningRate);
  const minLearningRate = nonNegative('minLearningRate', input.minLearningRate, learningRate / 10);
  if (minLearningRate > learningRate) {
    throw new UsageError(
      `minLearningRate (${minLearningRate}) must not exceed learningRate (${learningRate})`,
    );
  }
  const warmup = nonNegative('warmup', input.warmup, Math.min(100, Math.floor(steps / 10)), true);
  if (warmup > steps)
    throw new UsageError(`warmup (${warmup}) must not exceed the ${steps} steps of the run`);
  return {
    task,
    data: texts('data', input.data, ['sotu']),
    heldOut: input.heldOut === undefined ? [] : texts('heldOut', input.heldOut, []),
    initialValues: fields.choice('initialValues', INITIAL_VALUE_NAMES, 'official'),
    tokenizer: text('tokenizer', input.tokenizer, 'bytes'),
    stages,
    learningRate,
    minLearningRate,
    warmup,
    decay: fields.choice('decay', DECAYS, defaults.decay),
    weightDecay: nonNegative('weightDecay', input.weightDecay, defaults.weightDecay),
    beta1: below1('beta1', input.beta1, 0.9),
    beta2: below1('beta2', input.beta2, 0.95),
    epsilon: fields.positiveNumber('epsilon', 1e-8),
    clip: nonNegative('clip', input.clip, 1),
    accumulate,
    evalEvery: nonNegative('evalEvery', input.evalEvery, 50, true),
    evalTokens: fields.positiveInteger('evalTokens', 16384),
    checkpointEvery: nonNegative('checkpointEvery', input.checkpointEvery, 100, true),
    seed: nonNegative('seed', input.seed, 1, true),
    recompute: fields.boolean('recompute', false),
  };
}
