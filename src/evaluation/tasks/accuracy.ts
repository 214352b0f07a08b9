/** Columns every table of right and wrong answers has, and how they are computed. */
import type { Column, Row } from '../../results/schema.js';
import {
  estimateDifference,
  estimateMacro,
  normalInterval,
  wilsonInterval,
  type Interval,
} from '../scoring/statistics.js';
import { estimateMean, type Estimate } from '../../sweep/statistics.js';

export const ACCURACY_COLUMNS: readonly Column[] = [
  { name: 'questions', kind: 'result', description: 'questions asked', display: 'count' },
  {
    name: 'accuracy',
    kind: 'result',
    description: 'share answered right',
    digits: 6,
    display: 'percent',
    better: 'higher',
  },
  {
    name: 'standard_error',
    kind: 'result',
    description: 'standard error of the accuracy',
    digits: 6,
    display: 'percent',
  },
  {
    name: 'interval_low',
    kind: 'result',
    description: 'lower end of the 95 % interval (Wilson; of a macro average: normal)',
    digits: 6,
    display: 'percent',
  },
  {
    name: 'interval_high',
    kind: 'result',
    description: 'upper end of the 95 % interval',
    digits: 6,
    display: 'percent',
  },
  { name: 'chance', kind: 'result', description: 'accuracy of guessing', digits: 6, display: 'percent' },
  {
    name: 'difference',
    kind: 'result',
    description: 'accuracy minus that of the first model on the same questions',
    digits: 6,
    display: 'percent',
  },
  {
    name: 'difference_error',
    kind: 'result',
    description: 'standard error of the difference, questions paired',
    digits: 6,
    display: 'percent',
  },
];

/** 1 for each right answer and 0 for each wrong one, in the order of the questions. */
export type Outcomes = readonly number[];

/** Accuracy over all questions. @param baseline outcomes of the first model; absent for itself */
export function accuracyCells(outcomes: Outcomes, chance: number | null, baseline?: Outcomes): Row {
  const right = outcomes.reduce((sum, outcome) => sum + outcome, 0);
  return cells({
    questions: outcomes.length,
    accuracy: estimateMean(outcomes),
    interval: wilsonInterval(right, outcomes.length),
    chance,
    difference: baseline ? estimateDifference(outcomes, baseline) : null,
  });
}

/** The unweighted mean of the accuracies of groups of questions. */
export function macroCells(
  groups: readonly Outcomes[],
  chance: number | null,
  baseline?: readonly Outcomes[],
): Row {
  const accuracy = estimateMacro(groups.map(estimateMean));
  const differences = baseline?.map((group, index) => estimateDifference(groups[index] ?? [], group));
  return cells({
    questions: groups.reduce((sum, group) => sum + group.length, 0),
    accuracy,
    interval: normalInterval(accuracy),
    chance,
    difference: differences ? estimateMacro(differences) : null,
  });
}

interface AccuracyFigures {
  readonly questions: number;
  readonly accuracy: Estimate;
  readonly interval: Interval | null;
  readonly chance: number | null;
  readonly difference: Estimate | null;
}

function cells({ questions, accuracy, interval, chance, difference }: AccuracyFigures): Row {
  return {
    questions,
    accuracy: accuracy.mean,
    standard_error: accuracy.standardError,
    interval_low: interval?.low ?? null,
    interval_high: interval?.high ?? null,
    chance,
    difference: difference?.mean ?? null,
    difference_error: difference?.standardError ?? null,
  };
}
