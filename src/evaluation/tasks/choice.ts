/** The tables `yoco eval` writes: one row per item, and one per task with the average over tasks. */
import { MODEL_COLUMNS } from '../../sweep/model-key.js';
import type { Task } from '../../data/tasks/task.js';
import type { Row, Schema } from '../../results/schema.js';
import { ACCURACY_COLUMNS } from './accuracy.js';
import { WEIGHTS_COLUMN } from '../candidates.js';
import type { TaskTables } from './run.js';
import type { ItemResult } from './score.js';
import { SHOTS_COLUMNS, VERSION_COLUMN, type SummaryLine } from './summary.js';

const TASK_ITEMS: Schema = {
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
    { name: 'shots', kind: 'result', description: 'examples in the prompt' },
  ],
};

export const TASK_SUMMARY: Schema = {
  name: 'eval',
  columns: [
    ...MODEL_COLUMNS,
    { name: 'task', kind: 'key', description: 'task, or average: unweighted mean over the tasks' },
    WEIGHTS_COLUMN,
    ...SHOTS_COLUMNS,
    VERSION_COLUMN,
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

export const choiceTables: TaskTables<Task> = {
  items: TASK_ITEMS,
  summary: TASK_SUMMARY,
  itemKey: ({ name }, item) => ({ task: name, item }),
  itemCells,
  outcomeOf: (row) => ({
    correct: row.correct === 1 ? 1 : 0,
    correctNormalized: row.correct_normalized === null ? null : row.correct_normalized === 1 ? 1 : 0,
    goldLogLikelihood: Number(row.log_likelihood_gold),
    shots: Number(row.shots),
  }),
  lines: (tasks) => [
    ...tasks.map((task): SummaryLine<Task> => ({
      key: { task: task.name },
      tasks: [task],
      average: 'pooled',
      chance: task.chance,
    })),
    // The average of accuracies, as in the paper's table.
    ...(tasks.length > 1
      ? [{ key: { task: 'average' }, tasks, average: 'macro' as const, chance: null }]
      : []),
  ],
};

const bit = (value: boolean | null): number | null => (value === null ? null : value ? 1 : 0);

function itemCells({ item, shots, logLikelihoods, ...result }: ItemResult): Row {
  const rivals = logLikelihoods.filter((_, index) => index !== item.gold);
  return {
    gold: result.prediction === null ? null : item.gold,
    prediction: result.prediction,
    prediction_normalized: result.normalizedPrediction,
    correct: bit(result.correct),
    correct_normalized: bit(result.normalizedCorrect),
    log_likelihood_gold: logLikelihoods[item.gold] ?? null,
    log_likelihood_rival: rivals.length > 0 ? Math.max(...rivals) : null,
    shots,
  };
}
