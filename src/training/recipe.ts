/** A training run as data: what to learn from, for how long, and how; the same for flags and experiment files. */
import { isRecallTaskName, RECALL_TASK_NAMES, type RecallTaskName } from '../data/recall/names.js';
import { symbolsOf } from '../data/tokenizers/symbols.js';
import { UsageError } from '../errors.js';
import { readFields } from '../model/config-fields.js';
import type { FieldReader } from '../model/config-fields.js';
import { INITIAL_VALUE_NAMES, type InitialValues } from '../model/index.js';
import { completeStages, firstSpan, readSchedule } from './stages.js';
import type { RecipeStage, SharedFields, StageDefaults, StageInput, StageSchedule } from './stages.js';

export const TASKS = ['text', 'needle', ...RECALL_TASK_NAMES] as const;
export type TaskName = (typeof TASKS)[number];

export type { RecipeStage } from './stages.js';

export interface Recipe extends StageSchedule {
  readonly task: TaskName;
  /** `sotu`, `moby-dick`, files, globs or directories, or sources of a mixture, `NAME=PATH:WEIGHT`. */
  readonly data: readonly string[];
  /** Texts to measure on, each apart; none: a part of the data. Named as the data are, without weights. */
  readonly heldOut: readonly string[];
  /** What `loadTokenizer` takes. */
  readonly tokenizer: string;
  readonly stages: readonly RecipeStage[];
  /** How weights start that no checkpoint brings. */
  readonly initialValues: InitialValues;
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

/**
 * A recipe as a person writes it: all fields have defaults. `steps`, `batch`, `length` stand for one stage; `ropeTheta` is that of
 * the first, `documents` and `longDocuments` are those of all stages that do not have their own.
 */
export type RecipeInput = Partial<Omit<Recipe, 'stages'>> &
  SharedFields & {
    readonly stages?: readonly StageInput[];
    readonly steps?: number;
    readonly batch?: number;
    readonly length?: number;
    /** `minItems` and `maxItems` of that stage. */
    readonly items?: number;
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
  'items',
  'ropeTheta',
  'documents',
  'longDocuments',
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
interface TaskDefaults extends StageDefaults {
  readonly learningRate: number;
  readonly weightDecay: number;
}

function defaultsOf(task: TaskName): TaskDefaults {
  if (task === 'text')
    return {
      ...{ steps: 500, batch: 8, length: 256, learningRate: 2e-3, weightDecay: 0.1 },
      ...{ decay: 'cosine', kind: 'text' },
    };
  if (task === 'needle')
    return {
      ...{ steps: 1400, batch: 64, length: 768, learningRate: 2e-3, weightDecay: 0.05 },
      ...{ decay: 'linear', kind: 'needle' },
    };
  return {
    ...{ steps: 2000, batch: 64, length: 128, learningRate: 2e-3, weightDecay: 0.1 },
    ...{ decay: 'linear', kind: 'recall', items: DEFAULT_ITEMS[task] ?? 4 },
  };
}

/** Where four are not a middling number for sequences of the default length. */
const DEFAULT_ITEMS: Readonly<Partial<Record<RecallTaskName, number>>> = {
  ...{ mqar: 8, 'phone-book': 8, 'selective-copying': 16, 'needle-single': 1, 'frequent-words': 3 },
};

/**
 * The stages by which a small model learned to retrieve: the circuit forms on short sequences with few needles and
 * then carries over; long sequences from the start had not formed it after 1,500 steps.
 */
function needleStages(steps: number): StageInput[] {
  const half = Math.ceil(steps / 2);
  const stages = [
    { steps: half, batch: 64, length: 768, minNeedles: 2, maxNeedles: 4 },
    { steps: steps - half, batch: 32, length: 2048, minNeedles: 1, maxNeedles: 12 },
  ];
  return stages.filter((stage) => stage.steps > 0);
}

function readStages(input: RecipeInput, task: TaskName, defaults: TaskDefaults): RecipeStage[] {
  const { stages, steps, batch, length, items, ropeTheta, documents, longDocuments } = input;
  if (items !== undefined && !isRecallTaskName(task))
    throw new UsageError(`items are of the recall tasks: ${RECALL_TASK_NAMES.join(', ')}`);
  if (ropeTheta !== undefined) readFields({ ropeTheta }, '', 'recipe').positiveNumber('ropeTheta');
  const shared = { ropeTheta, documents, longDocuments };
  if (stages === undefined) {
    const sized = batch !== undefined || length !== undefined;
    if (task === 'needle' && !sized) {
      const count = readFields({ steps }, '', 'recipe').positiveInteger('steps', defaults.steps);
      return completeStages(needleStages(count), defaults, shared);
    }
    if (items !== undefined) readFields({ items }, '', 'recipe').positiveInteger('items');
    const own = items === undefined ? {} : { minItems: items, maxItems: items };
    return completeStages([{ steps, batch, length, ...own }], defaults, shared, () => '');
  }
  if ([steps, batch, length, items].some((value) => value !== undefined)) {
    throw new UsageError('steps, batch, length and items are given by the stages: leave them out');
  }
  if (!Array.isArray(stages) || stages.length === 0)
    throw new UsageError('stages must be a list of at least one stage');
  const objects = stages.map((stage: unknown, index) => {
    if (typeof stage === 'object' && stage !== null) return stage;
    throw new UsageError(`stages.${index} must be an object`);
  });
  return completeStages(objects, defaults, shared);
}

function wholeNumber(name: string, value: unknown, fallback: number): number {
  const found = value ?? fallback;
  if (typeof found === 'number' && Number.isSafeInteger(found) && found >= 0) return found;
  throw new UsageError(`${name} must be a whole number from 0 up, found ${JSON.stringify(found)}`);
}

function below1(fields: FieldReader, name: string, fallback: number): number {
  const found = fields.nonNegativeNumber(name, fallback);
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

/** What is learned from. Recall tasks make their sequences up, of numbered symbols. */
function readTexts(input: RecipeInput, task: TaskName): Pick<Recipe, 'data' | 'heldOut' | 'tokenizer'> {
  if (!isRecallTaskName(task))
    return {
      data: texts('data', input.data, ['sotu']),
      heldOut: input.heldOut === undefined ? [] : texts('heldOut', input.heldOut, []),
      tokenizer: text('tokenizer', input.tokenizer, 'bytes'),
    };
  const given = [...(input.data ?? []), ...(input.heldOut ?? [])];
  if (given.length > 0)
    throw new UsageError(`the task ${task} makes its sequences up: leave out data and heldOut`);
  const tokenizer = text('tokenizer', input.tokenizer, 'symbols-256');
  if (symbolsOf(tokenizer) !== null) return { data: [], heldOut: [], tokenizer };
  throw new UsageError(
    `the task ${task} has symbols for tokens: tokenizer must be symbols-N with N a multiple of 8, found '${tokenizer}'`,
  );
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
  const fields = readFields(input, '', 'recipe');
  fields.rejectUnknown(FIELDS);
  const task = fields.choice('task', TASKS, 'text');
  const defaults = defaultsOf(task);
  const stages = readStages(input, task, defaults);
  if (task !== 'text' && stages.some((stage) => stage.documents ?? stage.longDocuments)) {
    throw new UsageError(`documents and longDocuments are of the task text: ${task} has no documents`);
  }
  const accumulate = fields.positiveInteger('accumulate', 1);
  requireCountable(stages, accumulate);
  return {
    task,
    ...readTexts(input, task),
    initialValues: fields.choice('initialValues', INITIAL_VALUE_NAMES, 'official'),
    stages,
    ...readSchedule(fields, '', firstSpan(stages), defaults),
    weightDecay: fields.nonNegativeNumber('weightDecay', defaults.weightDecay),
    beta1: below1(fields, 'beta1', 0.9),
    beta2: below1(fields, 'beta2', 0.95),
    epsilon: fields.positiveNumber('epsilon', 1e-8),
    clip: fields.nonNegativeNumber('clip', 1),
    accumulate,
    evalEvery: wholeNumber('evalEvery', input.evalEvery, 50),
    evalTokens: fields.positiveInteger('evalTokens', 16384),
    checkpointEvery: wholeNumber('checkpointEvery', input.checkpointEvery, 100),
    seed: wholeNumber('seed', input.seed, 1),
    recompute: fields.boolean('recompute', false),
  };
}
