/** Evaluations: needles, multiple choice, perplexity. */
export { loadChoiceTask } from '../data/tasks/choice-tasks.js';
export { loadMmlu, sampleDirectory } from '../data/tasks/mmlu.js';
export { parseNeedles } from '../data/needle/prompt.js';
export { parseVariant } from '../data/needle/templates.js';
export { parseDepths } from '../evaluation/needle/depths.js';
export { chooseNeedleModels } from '../evaluation/needle/models.js';
export { runNeedle, type NeedleRun, type NeedleTables } from '../evaluation/needle/run.js';
export { describeAnswers, NEEDLE_CELLS } from '../evaluation/needle/tables.js';
export { runPerplexity, type PerplexityRun } from '../evaluation/perplexity/run.js';
export { PERPLEXITY_SCHEMA } from '../evaluation/perplexity/tables.js';
export { startSession, type Session } from '../evaluation/session.js';
export { runMmlu } from '../evaluation/tasks/mmlu-run.js';
export { MMLU_SUMMARY } from '../evaluation/tasks/mmlu-tables.js';
export { runTasks } from '../evaluation/tasks/tasks-run.js';
export { TASK_SUMMARY } from '../evaluation/tasks/tasks-tables.js';
