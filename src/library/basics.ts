/** What costs no time to load: errors with an exit status, names of models, numbers as people read them. */
export { RECALL_TASK_NAMES, type RecallTaskName } from '../data/recall/names.js';
export { FailedCellsError, RegressionError, RunError, UsageError, YocoError } from '../errors.js';
export { formatBytes, formatSeconds, formatTokenCount } from '../results/display.js';
export type { Column, Row, Schema } from '../results/schema.js';
export type { TableCell, TableSchema } from '../results/typed.js';
export { modelKey, modelLabel, type ModelChoice, type ModelKey } from '../sweep/model-key.js';
