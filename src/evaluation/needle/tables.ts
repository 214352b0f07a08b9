/** The tables `yoco needle` writes: one row per trial, one per cell of the heat map, one per context. */
import { MODEL_COLUMNS } from '../../sweep/model-key.js';
import { formatTokenCount } from '../../results/display.js';
import type { Column } from '../../results/schema.js';
import type { SnakeCase, TableSchema } from '../../results/typed.js';
import { WEIGHTS_COLUMN } from '../candidates.js';
import {
  isMeasured,
  type NeedleAccuracy,
  type NeedleCellFigures,
  type NeedleCellKey,
  type NeedleContextKey,
  type NeedleSpeed,
  type NeedleTrial,
  type NeedleTrialKey,
  type TrialFigures,
} from './cells.js';

/** The columns of these fields. */
type Columns<Fields> = readonly Column<SnakeCase<keyof Fields & string>>[];

const CONTEXT_COLUMNS: Columns<NeedleContextKey> = [
  ...MODEL_COLUMNS,
  { name: 'haystack', kind: 'key', description: 'filler text' },
  { name: 'variant', kind: 'key', description: 'standard, or in which way the test is harder' },
  { name: 'needles', kind: 'key', description: 'needles hidden, one of which is asked' },
  { name: 'context', kind: 'key', description: 'tokens of the prompt', display: 'count' },
];
const DEPTH_COLUMN: Column<'depth'> = {
  name: 'depth',
  kind: 'key',
  description: 'percent of the filler text before the needle',
};

/**
 * Seconds and bytes; of several trials the median, since the first one of a run may compile kernels, but of peaks the largest.
 */
const SPEED_COLUMNS: Columns<NeedleSpeed> = [
  {
    name: 'prefill_seconds',
    kind: 'timing',
    description: 'from nothing to the logits after the prompt',
    display: 'seconds',
    digits: 6,
    better: 'lower',
  },
  {
    name: 'prefill_tokens_per_second',
    kind: 'timing',
    description: 'context over prefill_seconds',
    digits: 1,
    better: 'higher',
  },
  {
    name: 'first_token_seconds',
    kind: 'timing',
    description: 'from nothing to the first token of the answer',
    display: 'seconds',
    digits: 6,
    better: 'lower',
  },
  {
    name: 'decode_tokens_per_second',
    kind: 'timing',
    description: 'tokens of the answer after the first, over their time',
    digits: 1,
    better: 'higher',
  },
  {
    name: 'peak_bytes',
    kind: 'timing',
    description: 'largest sum of all tensors, weights included',
    display: 'bytes',
    better: 'lower',
  },
  {
    name: 'peak_resident_bytes',
    kind: 'timing',
    description: 'largest resident memory of the process so far',
    display: 'bytes',
  },
];

export const NEEDLE_TRIALS: TableSchema<NeedleTrialKey, TrialFigures> = {
  name: 'needle-trials',
  columns: [
    ...CONTEXT_COLUMNS,
    DEPTH_COLUMN,
    { name: 'trial', kind: 'key', description: 'trial, from 0' },
    { name: 'placed_depth', kind: 'result', description: 'percent at which the needle stands', digits: 3 },
    { name: 'expected', kind: 'result', description: 'the number asked for' },
    { name: 'answer', kind: 'result', description: 'what was generated, as in a JSON text' },
    { name: 'exact', kind: 'result', description: '1 if the first number of the answer is the expected one' },
    {
      name: 'contained',
      kind: 'result',
      description: '1 if the answer contains its digits (the official criterion)',
    },
    {
      name: 'taken',
      kind: 'result',
      description: 'whose number was given: asked, other, distractor or none',
    },
    { name: 'taken_depth', kind: 'result', description: 'percent at which that line stands', digits: 3 },
    ...SPEED_COLUMNS,
  ],
};

const ACCURACY: Columns<Omit<NeedleAccuracy, keyof NeedleSpeed>> = [
  WEIGHTS_COLUMN,
  { name: 'trials', kind: 'result', description: 'trials' },
  { name: 'correct', kind: 'result', description: 'trials with the exact number' },
  {
    name: 'accuracy',
    kind: 'result',
    description: 'share of them',
    digits: 6,
    display: 'percent',
    better: 'higher',
  },
  {
    name: 'interval_low',
    kind: 'result',
    description: "lower end of Wilson's 95 % interval",
    digits: 6,
    display: 'percent',
  },
  {
    name: 'interval_high',
    kind: 'result',
    description: "upper end of Wilson's 95 % interval",
    digits: 6,
    display: 'percent',
  },
  {
    name: 'accuracy_contained',
    kind: 'result',
    description: "accuracy by the official code's criterion: the digits occur in the answer",
    digits: 6,
    display: 'percent',
  },
  {
    name: 'wrong_line',
    kind: 'result',
    description: 'share of trials that gave the number of another hidden line',
    digits: 6,
    display: 'percent',
    better: 'lower',
  },
];

/** A needle stands at the end of a sentence, which may be far from where it was asked to be. */
const PLACED_COLUMN: Column<'placed_depth'> = {
  name: 'placed_depth',
  kind: 'result',
  description: 'percent at which the needle stands, mean over the trials',
  digits: 1,
};

export const NEEDLE_CELLS: TableSchema<NeedleCellKey, NeedleCellFigures> = {
  name: 'needle',
  columns: [...CONTEXT_COLUMNS, DEPTH_COLUMN, PLACED_COLUMN, ...ACCURACY, ...SPEED_COLUMNS],
};

/** All depths together. */
export const NEEDLE_CONTEXTS: TableSchema<NeedleContextKey, NeedleAccuracy> = {
  name: 'needle-contexts',
  columns: [...CONTEXT_COLUMNS, ...ACCURACY, ...SPEED_COLUMNS],
};

/** Answers are told one by one when there are at most so many. */
const FEW = 12;

/** A line for every trial of a short run: what was expected and what was answered. */
export function describeAnswers(trials: readonly NeedleTrial[]): string[] {
  const answered = trials.filter(isMeasured);
  if (answered.length > FEW) return [];
  return answered.map(({ context, depth, exact, expected, answer }) => {
    const verdict = exact === 1 ? 'right' : `wrong, it was ${expected}`;
    return `${formatTokenCount(context)} tokens, needle at ${depth} %: answered '${answer}' (${verdict})`;
  });
}
