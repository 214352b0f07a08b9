/** The tables `yoco eval` writes: one row per item, and one per task with the average over tasks. */
import { MODEL_COLUMNS } from '../../sweep/model-key.js';
import type { ChoiceTask } from '../../data/tasks/choice-tasks.js';
import type { Row, Schema } from '../../results/schema.js';
import { ACCURACY_COLUMNS, accuracyCells, macroCells, type Outcomes } from './accuracy.js';
import { WEIGHTS_COLUMN } from '../candidates.js';
import { estimateMean } from '../scoring/statistics.js';
import type { ItemResult } from './tasks.js';

export const TASK_ITEMS: Schema = {
  name: 'eval-items',
  columns: [
    ...MODEL_COLUMNS,
    { name: 'task', kind: 'key', description: 'task' },
    { name: 'item', kind: 'key', description: "item of the task's file, from 0" },
    { name: 'gold', kind: 'result', description: 'the right option, from 0' },
    { name: 'prediction', kind: 'result', description: 'the likeliest option; empty for cloze tasks' },
    { name: 'prediction_normalized', kind: 'result', description: 'the likeliest option per character' },
    { name: 'correct', kind: 'result', description: '1 if right, else 0' },
    { name: 'correct_normalized', kind: 'result', description: '1 if right per character, else 0' },
    {
      name: 'log_likelihood_gold',
      kind: 'result',
      description: 'log-likelihood of the right option in nats',
      digits: 5,
    },
    {
      name: 'log_likelihood_rival',
      kind: 'result',
      description: 'log-likelihood of the likeliest wrong option in nats',
      digits: 5,
    },
  ],
};

export const TASK_SUMMARY: Schema = {
  name: 'eval',
  columns: [
    ...MODEL_COLUMNS,
    { name: 'task', kind: 'key', description: 'task, or average: unweighted mean over the tasks' },
    WEIGHTS_COLUMN,
    ...ACCURACY_COLUMNS,
    {
      name: 'accuracy_normalized',
      kind: 'result',
      description: 'accuracy by likelihood per character',
      digits: 6,
      display: 'percent',
      better: 'higher',
    },
    {
      name: 'standard_error_normalized',
      kind: 'result',
      description: 'standard error of accuracy_normalized',
      digits: 6,
      display: 'percent',
    },
    {
      name: 'perplexity',
      kind: 'result',
      description: 'exp of the mean loss per continuation (cloze tasks)',
      digits: 4,
      better: 'lower',
    },
    {
      name: 'standard_error_perplexity',
      kind: 'result',
      description: 'standard error of the perplexity, to first order',
      digits: 4,
    },
  ],
};

const bit = (value: boolean | null): number | null => (value === null ? null : value ? 1 : 0);

export function itemCells(result: ItemResult): Row {
  return {
    gold: result.prediction === null ? null : result.item.gold,
    prediction: result.prediction,
    prediction_normalized: result.normalizedPrediction,
    correct: bit(result.correct),
    correct_normalized: bit(result.normalizedCorrect),
    log_likelihood_gold: result.goldLogLikelihood,
    log_likelihood_rival: result.rivalLogLikelihood,
  };
}

export const outcomesOf = (rows: readonly Row[]): Outcomes => rows.map(({ correct }) => Number(correct));

/** The row of a task from those of its items. */
export function summarizeTask(task: ChoiceTask, rows: readonly Row[], baseline?: Outcomes): Row {
  const normalized = task.normalizable
    ? estimateMean(rows.map(({ correct_normalized: correct }) => Number(correct)))
    : null;
  return {
    task: task.name,
    ...accuracyCells(outcomesOf(rows), task.chance, baseline),
    accuracy_normalized: normalized?.mean ?? null,
    standard_error_normalized: normalized?.standardError ?? null,
    ...(task.kind === 'cloze' ? perplexityCells(rows) : {}),
  };
}

function perplexityCells(rows: readonly Row[]): Row {
  const { mean, standardError } = estimateMean(rows.map((row) => -Number(row.log_likelihood_gold)));
  const perplexity = Math.exp(mean);
  return {
    perplexity,
    standard_error_perplexity: standardError === null ? null : perplexity * standardError,
  };
}

/** The average over tasks: of accuracies, as in the paper's table. */
export function summarizeAverage(outcomes: readonly Outcomes[], baseline?: readonly Outcomes[]): Row {
  return { task: 'average', ...macroCells(outcomes, null, baseline) };
}
