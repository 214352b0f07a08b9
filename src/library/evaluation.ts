/** Evaluations: needles, multiple choice, perplexity. */
export { hasChoiceTask, loadChoiceTask, type ChoiceTaskOptions } from '../data/tasks/choice-tasks.js';
export { loadMmlu, sampleDirectory } from '../data/tasks/mmlu.js';
export type { Task, TaskItem, TaskMetric } from '../data/tasks/task.js';
export { parseNeedles } from '../data/needle/prompt.js';
export { parseVariant } from '../data/needle/templates.js';
export { parseDepths } from '../evaluation/needle/depths.js';
export { chooseNeedleModels } from '../evaluation/needle/models.js';
export { runNeedle, type NeedleRun, type NeedleTables } from '../evaluation/needle/run.js';
export { describeAnswers, NEEDLE_CELLS } from '../evaluation/needle/tables.js';
export { runPerplexity, type PerplexityRun } from '../evaluation/perplexity/run.js';
export { PERPLEXITY_SCHEMA } from '../evaluation/perplexity/tables.js';
export { startSession, type Session } from '../evaluation/session.js';
export { choiceTables, TASK_SUMMARY } from '../evaluation/tasks/choice.js';
export { MMLU_SUMMARY, mmluTables } from '../evaluation/tasks/mmlu.js';
export { runTasks, type TasksRun, type TaskTables } from '../evaluation/tasks/run.js';
