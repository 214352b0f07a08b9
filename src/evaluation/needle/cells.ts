/** What the needle test measures: one trial, the trials of a cell of the heat map, and all depths of a context together. */
import type { HiddenLine } from '../../data/needle/prompt.js';
import type { NeedleVariant } from '../../data/needle/templates.js';
import { groupRows } from '../../results/group.js';
import type { TableCell } from '../../results/typed.js';
import type { ModelKey } from '../../sweep/model-key.js';
import { greatest, mean, median } from '../../sweep/statistics.js';
import type { WeightsOrigin } from '../candidates.js';
import { wilsonInterval } from '../scoring/statistics.js';

export interface NeedleContextKey extends ModelKey {
  /** Name of the filler text. */
  readonly haystack: string;
  readonly variant: NeedleVariant;
  /** Needles hidden, one of which is asked. */
  readonly needles: number;
  /** Tokens of the prompt. */
  readonly context: number;
}

export interface NeedleCellKey extends NeedleContextKey {
  /** Percent of the filler text before the needle, as asked for. */
  readonly depth: number;
}

export interface NeedleTrialKey extends NeedleCellKey {
  /** From 0. */
  readonly trial: number;
}

/** Seconds, rates and bytes; null where there is nothing to measure. */
export interface NeedleSpeed {
  readonly prefillSeconds: number | null;
  readonly prefillTokensPerSecond: number | null;
  readonly firstTokenSeconds: number | null;
  readonly decodeTokensPerSecond: number | null;
  readonly peakBytes: number | null;
  readonly peakResidentBytes: number | null;
}

export interface TrialFigures extends NeedleSpeed {
  /** Percent at which the needle stands. */
  readonly placedDepth: number;
  /** The number asked for. */
  readonly expected: string;
  /** What was generated, as in a JSON text. */
  readonly answer: string;
  /** 1 if the first number of the answer is the expected one. */
  readonly exact: number;
  /** 1 if the answer contains its digits. */
  readonly contained: number;
  /** Whose number was given. */
  readonly taken: HiddenLine['kind'] | 'none';
  /** Percent at which that line stands; null for none. */
  readonly takenDepth: number | null;
}

export type NeedleTrial = TableCell<NeedleTrialKey, TrialFigures>;
/** A trial that was measured. */
export type MeasuredTrial = Extract<NeedleTrial, { readonly status: 'ok' }>;

/** Of the trials with one key. Speeds are medians, peaks the largest. */
export interface NeedleAccuracy extends NeedleSpeed {
  readonly weights: WeightsOrigin;
  readonly trials: number;
  readonly correct: number;
  readonly accuracy: number;
  readonly intervalLow: number;
  readonly intervalHigh: number;
  readonly accuracyContained: number;
  readonly wrongLine: number;
}

export interface NeedleCellFigures extends NeedleAccuracy {
  /** Percent at which the needles stand, mean. */
  readonly placedDepth: number;
}

export const isMeasured = (trial: NeedleTrial): trial is MeasuredTrial => trial.status === 'ok';

/** The accuracy and speed of some trials of one context; the first trial may compile kernels, which a median does not show. */
export function summarizeTrials(trials: readonly MeasuredTrial[]): Omit<NeedleAccuracy, 'weights'> {
  const known = (of: keyof NeedleSpeed): number[] =>
    trials.map((trial) => trial[of]).filter((value) => value !== null);
  const largest = (of: keyof NeedleSpeed): number | null => {
    const values = known(of);
    return values.length > 0 ? greatest(values) : null;
  };
  const middle = (of: keyof NeedleSpeed): number | null => {
    const values = known(of);
    return values.length > 0 ? median(values) : null;
  };
  const correct = trials.reduce((sum, { exact }) => sum + exact, 0);
  const { low, high } = wilsonInterval(correct, trials.length);
  const wrong = trials.filter(({ taken }) => taken === 'other' || taken === 'distractor').length;
  const seconds = middle('prefillSeconds');
  const context = trials[0]?.context ?? NaN;
  return {
    trials: trials.length,
    correct,
    accuracy: correct / trials.length,
    intervalLow: low,
    intervalHigh: high,
    accuracyContained: mean(trials.map(({ contained }) => contained)),
    wrongLine: wrong / trials.length,
    prefillSeconds: seconds,
    prefillTokensPerSecond: seconds === null ? null : context / seconds,
    firstTokenSeconds: middle('firstTokenSeconds'),
    decodeTokensPerSecond: middle('decodeTokensPerSecond'),
    peakBytes: largest('peakBytes'),
    peakResidentBytes: largest('peakResidentBytes'),
  };
}

/** The key of a context, of anything that has more. */
export function contextKey({
  model,
  architecture,
  selfDecoder,
  haystack,
  variant,
  needles,
  context,
}: NeedleContextKey): NeedleContextKey {
  return { model, architecture, selfDecoder, haystack, variant, needles, context };
}

/** The key of a cell of the heat map. */
export const cellKey = (trial: NeedleCellKey): NeedleCellKey => ({
  ...contextKey(trial),
  depth: trial.depth,
});

/** Trials in groups of equal keys, in the order of their first ones. */
export function groupTrials<Key extends NeedleContextKey, Trial extends NeedleTrial>(
  trials: readonly Trial[],
  keyOf: (trial: NeedleTrialKey) => Key,
): { key: Key; trials: readonly Trial[] }[] {
  const groups = groupRows(trials, (trial) => JSON.stringify(keyOf(trial)));
  return [...groups.values()].flatMap((group) => (group[0] ? { key: keyOf(group[0]), trials: group } : []));
}
