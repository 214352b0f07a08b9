/** The stages of a recipe: sequences of one length each, and what may change from one to the next. */
import type { LongDocuments } from '../data/document-ends.js';
import { UsageError } from '../errors.js';
import { readFields, type FieldReader } from '../model/config-fields.js';
import { DECAYS, learningRateAt, type Decay } from './schedule.js';
import { stageOf, totalSteps, type Stage } from './task.js';

/**
 * A stage with a learning rate begins a schedule of its own, which spans it and the stages after it up to the next one with a
 * learning rate. It has all of these fields or none; the first stage has none: its schedule is that of the recipe.
 */
export interface StageSchedule {
  readonly learningRate: number;
  readonly minLearningRate: number;
  readonly warmup: number;
  readonly decay: Decay;
}

/** What a stage of text may ask for beside its size. */
export interface TextStage extends Stage {
  /** `apart`: each sequence is of one document, and nothing reaches over from another; absent: windows of the joined documents. */
  readonly documents?: 'apart';
  /** How often an epoch reads documents of at least `length` tokens, others once, or with `only` never; absent: once. */
  readonly longDocuments?: LongDocuments;
}

/** A stage of any task; the needle fields are those of `--task needle`, the items those of the recall tasks. */
export interface RecipeStage extends TextStage, Partial<StageSchedule> {
  /** Needles hidden in a sequence, drawn uniformly from minNeedles to maxNeedles. */
  readonly minNeedles: number;
  readonly maxNeedles: number;
  /** Loss on the answers only: the cross-decoder then runs at a few positions, whatever the length. */
  readonly answersOnly: boolean;
  /** Share of sequences in the words of the official needle test; the others vary words, names, attributes and numbers. */
  readonly officialShare: number;
  /** Digits of a number at most, in the other sequences. */
  readonly maxDigits: number;
  /** Needles added at most, each like another in name or attribute, in the other sequences. */
  readonly maxDistractors: number;
  /** Share of the other sequences in which these are all like one needle, in the same words, and are asked for first. */
  readonly confusableShare: number;
  /** Share of lines drawn word by word, among those not in the official words, in the other sequences. */
  readonly looseShare: number;
  /** How much there is to recall in a sequence, drawn uniformly from minItems to maxItems. */
  readonly minItems: number;
  readonly maxItems: number;
  /** θ of rotary positions from this stage on; absent: as before it. */
  readonly ropeTheta?: number;
}

export type StageInput = Partial<Omit<RecipeStage, 'documents'>> & SharedFields;

const DOCUMENT_MODES = ['joined', 'apart'] as const;

/** What differs between the tasks when nothing is said. */
export interface StageDefaults {
  readonly steps: number;
  readonly batch: number;
  readonly length: number;
  readonly decay: Decay;
  readonly kind: TaskKind;
  /** Of a recall task. */
  readonly items?: number;
}

const OPTIONAL_FIELDS = ['documents', 'longDocuments', 'ropeTheta'] as const;
/** Which fields a stage has beside those of all stages. */
export type TaskKind = 'text' | 'needle' | 'recall';

/** How needles are worded. */
const WORDING_FIELDS = [
  'officialShare',
  'maxDigits',
  'maxDistractors',
  'confusableShare',
  'looseShare',
] as const;

const OWN_FIELDS: Readonly<Record<TaskKind, readonly (keyof RecipeStage)[]>> = {
  text: [],
  needle: ['minNeedles', 'maxNeedles', 'answersOnly', ...WORDING_FIELDS],
  recall: ['minItems', 'maxItems'],
};

const SCHEDULE_FIELDS = ['learningRate', 'minLearningRate', 'warmup', 'decay'] as const;

/** Fields that a recipe has for its stages: the documents for all of them, θ for the first. */
export interface SharedFields {
  readonly ropeTheta?: number;
  readonly documents?: (typeof DOCUMENT_MODES)[number];
  readonly longDocuments?: LongDocuments;
}

/**
 * Completes stages as a person writes them.
 * @param path of the fields in errors, of stage `index`
 * @throws UsageError naming the field and what it may be
 */
export function completeStages(
  inputs: readonly object[],
  defaults: StageDefaults,
  shared: SharedFields,
  path: (index: number) => string = (index) => `stages.${index}.`,
): RecipeStage[] {
  const readers = inputs.map((input, index) => readFields(input, path(index), 'recipe'));
  const sizes = readers.map((fields) => readSizes(fields, defaults));
  return readers.map((fields, index) => {
    const size = sizes[index] as Stage;
    const next = readers.findIndex((other, at) => at > index && other.has('learningRate'));
    const span = sizes.slice(index, next < 0 ? undefined : next).reduce((sum, { steps }) => sum + steps, 0);
    if (index === 0 && fields.has('learningRate')) {
      throw new UsageError(`${path(0)}learningRate: the schedule of the first stage is that of the recipe`);
    }
    const stage = {
      ...size,
      ...readNeedles(fields, defaults),
      ...readItems(fields, defaults),
      ...readDocuments(fields, inputs[index] ?? {}, shared, path(index)),
      ...readTheta(fields, index === 0 ? shared.ropeTheta : undefined),
      ...readOwnSchedule(fields, path(index), span, defaults.decay),
    };
    fields.rejectUnknown([...Object.keys(stage), ...OPTIONAL_FIELDS, ...SCHEDULE_FIELDS]);
    refuseForeign(fields, stage, defaults, path(index));
    return stage;
  });
}

/** Complete stages have the fields of all tasks: those of another task may have their defaults only. */
function refuseForeign(fields: FieldReader, stage: RecipeStage, defaults: StageDefaults, path: string): void {
  const none = readFields({});
  const plain = { ...readNeedles(none, defaults), ...readItems(none, defaults) };
  for (const [kind, names] of Object.entries(OWN_FIELDS)) {
    const name = names.find((own) => fields.has(own) && stage[own] !== plain[own as keyof typeof plain]);
    if (kind === defaults.kind || name === undefined) continue;
    throw new UsageError(`${path}${name} is of the ${kind} tasks only`);
  }
}

function readSizes(fields: FieldReader, defaults: StageDefaults): Stage {
  return {
    steps: fields.positiveInteger('steps', defaults.steps),
    batch: fields.positiveInteger('batch', defaults.batch),
    length: fields.positiveInteger('length', defaults.length),
  };
}

type ItemFields = Pick<RecipeStage, 'minItems' | 'maxItems'>;
type NeedleFields = Omit<RecipeStage, keyof TextStage | keyof StageSchedule | keyof ItemFields | 'ropeTheta'>;

/** Answers of the needle test have 20 tokens at most, and end with what is no digit. */
const MOST_DIGITS = 18;
const MAX_DIGITS = 8;
const MAX_DISTRACTORS = 3;

function readNeedles(fields: FieldReader, { kind }: StageDefaults): NeedleFields {
  const minNeedles = fields.positiveInteger('minNeedles', 1);
  const maxNeedles = fields.positiveInteger('maxNeedles', Math.max(12, minNeedles));
  if (minNeedles > maxNeedles) {
    throw new UsageError(`minNeedles (${minNeedles}) must not exceed maxNeedles (${maxNeedles})`);
  }
  return {
    minNeedles,
    maxNeedles,
    // Recall tasks have no loss but that of their answers.
    answersOnly: fields.boolean('answersOnly', kind === 'recall'),
    ...readWording(fields),
  };
}

function readItems(fields: FieldReader, { items = 1 }: StageDefaults): ItemFields {
  const fewest = Math.min(items, fields.positiveInteger('maxItems', items));
  const minItems = fields.positiveInteger('minItems', fewest);
  const maxItems = fields.positiveInteger('maxItems', Math.max(items, minItems));
  if (minItems > maxItems)
    throw new UsageError(`minItems (${minItems}) must not exceed maxItems (${maxItems})`);
  return { minItems, maxItems };
}

function readWording(fields: FieldReader): Pick<NeedleFields, (typeof WORDING_FIELDS)[number]> {
  const officialShare = fields.share('officialShare', 1);
  const others = {
    maxDigits: fields.positiveInteger('maxDigits', MAX_DIGITS),
    maxDistractors: fields.count('maxDistractors', MAX_DISTRACTORS),
    confusableShare: fields.share('confusableShare', 0),
    looseShare: fields.share('looseShare', 0),
  };
  const { maxDigits, maxDistractors, confusableShare, looseShare } = others;
  if (maxDigits > MOST_DIGITS)
    throw new UsageError(`maxDigits (${maxDigits}) must not exceed ${MOST_DIGITS}`);
  const idle =
    (maxDigits !== MAX_DIGITS && 'maxDigits') ||
    (maxDistractors !== MAX_DISTRACTORS && 'maxDistractors') ||
    (confusableShare > 0 && 'confusableShare') ||
    (looseShare > 0 && 'looseShare');
  if (officialShare === 1 && idle)
    throw new UsageError(
      `${idle} concerns needles in other than the official words: set officialShare below 1`,
    );
  if (maxDistractors === 0 && confusableShare > 0)
    throw new UsageError('confusableShare needs distractors: set maxDistractors above 0');
  return { officialShare, ...others };
}

function readDocuments(
  fields: FieldReader,
  input: { readonly longDocuments?: unknown },
  shared: SharedFields,
  path: string,
): Pick<TextStage, 'documents' | 'longDocuments'> {
  const documents = fields.choice('documents', DOCUMENT_MODES, shared.documents ?? 'joined');
  const times = input.longDocuments ?? shared.longDocuments ?? 1;
  const isCount = typeof times === 'number' && Number.isSafeInteger(times) && times > 0;
  if (!isCount && times !== 'only') {
    throw new UsageError(
      `${path}longDocuments must be a positive integer or 'only', found ${JSON.stringify(times)}`,
    );
  }
  return {
    ...(documents === 'apart' ? { documents } : {}),
    ...(times === 1 ? {} : { longDocuments: times }),
  };
}

function readTheta(fields: FieldReader, shared: number | undefined): Pick<RecipeStage, 'ropeTheta'> {
  const given = fields.has('ropeTheta') || shared !== undefined;
  return given ? { ropeTheta: fields.positiveNumber('ropeTheta', shared) } : {};
}

function readOwnSchedule(
  fields: FieldReader,
  path: string,
  span: number,
  decay: Decay,
): Partial<StageSchedule> {
  if (fields.has('learningRate')) return readSchedule(fields, path, span, { decay });
  const lonely = SCHEDULE_FIELDS.find((name) => fields.has(name));
  if (lonely === undefined) return {};
  throw new UsageError(`${path}${lonely} needs a learningRate of the stage, which begins a schedule`);
}

/**
 * @param path of the fields in errors
 * @param span steps of the schedule
 * @throws UsageError naming the field and what it may be
 */
export function readSchedule(
  fields: FieldReader,
  path: string,
  span: number,
  defaults: { readonly learningRate?: number; readonly decay: Decay },
): StageSchedule {
  const learningRate = fields.positiveNumber('learningRate', defaults.learningRate);
  const decay = fields.choice('decay', DECAYS, defaults.decay);
  const lowest = decay === 'constant' ? learningRate : learningRate / 10;
  const minLearningRate = fields.nonNegativeNumber('minLearningRate', lowest);
  if (minLearningRate > learningRate) {
    throw new UsageError(
      `${path}minLearningRate (${minLearningRate}) must not exceed learningRate (${learningRate})`,
    );
  }
  if (decay === 'constant' && minLearningRate < learningRate) {
    throw new UsageError(`${path}minLearningRate (${minLearningRate}) needs a decay other than constant`);
  }
  // A tenth of the steps, 100 at most.
  const warmup = fields.count('warmup', Math.min(100, Math.floor(span / 10)));
  if (warmup > span) throw new UsageError(`${path}warmup (${warmup}) must not exceed the ${span} steps`);
  return { learningRate, minLearningRate, warmup, decay };
}

/** Steps of the schedule that the recipe itself gives: up to the first stage with a learning rate. */
export function firstSpan(stages: readonly RecipeStage[]): number {
  const next = stages.findIndex(({ learningRate }) => learningRate !== undefined);
  return totalSteps(next < 0 ? stages : stages.slice(0, next));
}

/** The learning rate of `step` of a run, counted from 1. */
export function stageLearningRate(
  recipe: StageSchedule & { readonly stages: readonly RecipeStage[] },
  step: number,
): number {
  const { stages } = recipe;
  const current = stageOf(stages, step);
  const begins = ({ learningRate }: RecipeStage): boolean => learningRate !== undefined;
  const own = stages.slice(0, current + 1).findLastIndex(begins);
  const first = Math.max(own, 0);
  const next = stages.findIndex((stage, index) => index > current && begins(stage));
  const spanned = stages.slice(first, next < 0 ? undefined : next);
  const schedule = own < 0 ? recipe : (stages[own] as StageSchedule);
  const before = totalSteps(stages.slice(0, first));
  return learningRateAt(step - before, { ...schedule, steps: totalSteps(spanned) });
}

/** θ of a stage: the last one given up to it; null: that of the model. */
export function stageTheta(stages: readonly RecipeStage[], index: number): number | null {
  return stages.slice(0, index + 1).findLast(({ ropeTheta }) => ropeTheta !== undefined)?.ropeTheta ?? null;
}
