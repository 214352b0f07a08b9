/** The recall tasks: sequences of symbols in which something is to be found again. */
import { UsageError } from '../../errors.js';
import { commonWords } from './common-words.js';
import { frequentWords } from './frequent-words.js';
import { mqar } from './mqar.js';
import { RECALL_TASK_NAMES, type RecallTaskName } from './names.js';
import { needleMultiKey } from './needle-multi-key.js';
import { needleMultiQuery } from './needle-multi-query.js';
import { needleMultiValue } from './needle-multi-value.js';
import { needleSingle } from './needle-single.js';
import { phoneBook } from './phone-book.js';
import { selectiveCopying } from './selective-copying.js';
import type { RecallOptions, RecallTask } from './task.js';
import { variableTracking } from './variable-tracking.js';

export { isRecallTaskName, RECALL_TASK_NAMES, type RecallTaskName } from './names.js';
export type { RecallExample, RecallOptions, RecallQuestion, RecallTask } from './task.js';

export const RECALL_TASKS: Readonly<Record<RecallTaskName, RecallTask>> = {
  mqar,
  'phone-book': phoneBook,
  'selective-copying': selectiveCopying,
  'needle-single': needleSingle,
  'needle-multi-key': needleMultiKey,
  'needle-multi-value': needleMultiValue,
  'needle-multi-query': needleMultiQuery,
  'variable-tracking': variableTracking,
  'common-words': commonWords,
  'frequent-words': frequentWords,
};

/** @throws UsageError that names the tasks */
export function parseRecallTask(text: string): RecallTask {
  const name = RECALL_TASK_NAMES.find((known) => known === text);
  if (name) return RECALL_TASKS[name];
  throw new UsageError(`unknown recall task '${text}': use ${RECALL_TASK_NAMES.join(', ')}`);
}

/** @throws UsageError for what the task has no sequences of */
export function requireSequences(task: RecallTask, options: RecallOptions): void {
  const refusal = task.refusal(options);
  if (refusal === null) return;
  const { length, items } = options;
  throw new UsageError(`${task.name} with ${items} ${task.counts} in ${length} tokens: ${refusal}`);
}

/** @throws UsageError for anything but a whole number from 1 */
export function parseItems(text: string): number {
  const items = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (items > 0) return items;
  throw new UsageError(`'${text}' is no number of items: use whole numbers from 1`);
}
