/** Evaluations: needles, multiple choice, perplexity. */
export { hasChoiceTask, loadChoiceTask, type ChoiceTaskOptions } from '../data/tasks/choice-tasks.js';
export { loadMmlu, sampleDirectory } from '../data/tasks/mmlu.js';
export type { Task, TaskItem, TaskMetric } from '../data/tasks/task.js';
export { parseNeedles } from '../data/needle/prompt.js';
export { parseVariant } from '../data/needle/templates.js';
export { parseDepths } from '../evaluation/needle/depths.js';
export type {
  NeedleAccuracy,
  NeedleCellFigures,
  NeedleCellKey,
  NeedleContextKey,
  NeedleTrial,
  NeedleTrialKey,
  TrialFigures,
} from '../evaluation/needle/cells.js';
export { runNeedle, type NeedleResults, type NeedleRun } from '../evaluation/needle/run.js';
export { describeAnswers, NEEDLE_CELLS } from '../evaluation/needle/tables.js';
export { perplexityFits } from '../evaluation/perplexity/fit.js';
export { runPerplexity, type PerplexityProgress, type PerplexityRun } from '../evaluation/perplexity/run.js';
export {
  PERPLEXITY_SCHEMA,
  type PerplexityFigures,
  type PerplexityKey,
} from '../evaluation/perplexity/tables.js';
export {
  PASSAGES_SCHEMA,
  runPassages,
  type PassageFigures,
  type PassageKey,
  type PassageRun,
} from '../evaluation/perplexity/run-passages.js';
export { parseItems, parseRecallTask } from '../data/recall/index.js';
export { runRecall, type RecallRun } from '../evaluation/recall/run.js';
export { RECALL_SCHEMA, type RecallFigures, type RecallKey } from '../evaluation/recall/tables.js';
export { startSession, type Session, type SessionOptions } from '../evaluation/session.js';
export { choiceTables, TASK_SUMMARY } from '../evaluation/tasks/choice.js';
export { MMLU_SUMMARY, mmluTables } from '../evaluation/tasks/mmlu.js';
export { runTasks, type TasksRun, type TaskTables } from '../evaluation/tasks/run.js';
