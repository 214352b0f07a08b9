/** From the answers of one model to the figures of a task, a group of tasks, or an average over tasks. */
import type { Task } from '../../data/tasks/task.js';
import type { Column, Row } from '../../results/schema.js';
import { estimateMean } from '../../sweep/statistics.js';
import { accuracyCells, macroCells, type Outcomes } from './accuracy.js';

/** How many of the examples asked for a prompt could hold. */
export const SHOTS_COLUMNS: readonly Column[] = [
  { name: 'shots', kind: 'result', description: 'examples in a prompt, on average', digits: 3 },
  { name: 'shots_asked', kind: 'result', description: 'examples asked for: fewer fit a short context' },
];

export const VERSION_COLUMN: Column = {
  name: 'version',
  kind: 'result',
  description: "of the task's prompts: figures of different versions cannot be compared",
};

/** What is kept of an answer. */
export interface ItemOutcome {
  readonly correct: 0 | 1;
  /** By likelihood per character; null where that is no metric of the task. */
  readonly correctNormalized: 0 | 1 | null;
  /** Log-likelihood of the right option, in nats. */
  readonly goldLogLikelihood: number;
  /** Examples in the prompt. */
  readonly shots: number;
}

/** Answers in the order of the items, by the name of the task; tasks that failed are absent. */
export type OutcomesByTask = ReadonlyMap<string, readonly ItemOutcome[]>;

/** A line of the summary: over the questions of some tasks, or over the tasks. */
export interface SummaryLine<T extends Task> {
  readonly key: Row;
  readonly tasks: readonly T[];
  /** `pooled`: every question counts alike; `macro`: every task does. */
  readonly average: 'pooled' | 'macro';
  readonly chance: number | null;
}

/** The cells of a line. @param baseline answers of the first model; absent for itself */
export function summaryCells<T extends Task>(
  { tasks, average, chance }: SummaryLine<T>,
  outcomes: OutcomesByTask,
  baseline?: OutcomesByTask,
): Row {
  const groups = tasks.map(({ name }) => outcomes.get(name) ?? []);
  const others = baseline && tasks.map(({ name }) => baseline.get(name));
  // A model whose first rival failed in one of these tasks is compared with none.
  const compared = others?.every((group) => group !== undefined) ? others.map(correctOf) : undefined;
  const all = groups.flat();
  return {
    version: versionOf(tasks),
    shots: all.reduce((sum, { shots }) => sum + shots, 0) / all.length,
    shots_asked: Math.max(...tasks.map(({ examples }) => examples.length)),
    ...(average === 'macro'
      ? macroCells(groups.map(correctOf), chance, compared)
      : accuracyCells(correctOf(all), chance, compared?.flat())),
    ...(average === 'pooled' ? metricCells(tasks, all) : {}),
  };
}

const correctOf = (outcomes: readonly ItemOutcome[]): Outcomes => outcomes.map(({ correct }) => correct);

/** Of several tasks only where they agree. */
function versionOf(tasks: readonly Task[]): number | null {
  const versions = new Set(tasks.map(({ version }) => version));
  return versions.size === 1 ? (tasks[0]?.version ?? null) : null;
}

/** What is reported beside the accuracy. */
function metricCells(tasks: readonly Task[], outcomes: readonly ItemOutcome[]): Row {
  const has = (metric: Task['metrics'][number]): boolean =>
    tasks.every(({ metrics }) => metrics.includes(metric));
  return {
    ...(has('accuracy_normalized') ? normalizedCells(outcomes) : {}),
    ...(has('perplexity') ? perplexityCells(outcomes) : {}),
  };
}

function normalizedCells(outcomes: readonly ItemOutcome[]): Row {
  const { mean, standardError } = estimateMean(
    outcomes.map(({ correctNormalized }) => correctNormalized ?? NaN),
  );
  return { accuracy_normalized: mean, standard_error_normalized: standardError };
}

function perplexityCells(outcomes: readonly ItemOutcome[]): Row {
  const { mean, standardError } = estimateMean(outcomes.map(({ goldLogLikelihood }) => -goldLogLikelihood));
  const perplexity = Math.exp(mean);
  return {
    perplexity,
    standard_error_perplexity: standardError === null ? null : perplexity * standardError,
  };
}
