/** Light: flags name the tasks without loading them. */
export const RECALL_TASK_NAMES = [
  'mqar',
  'phone-book',
  'selective-copying',
  'needle-single',
  'needle-multi-key',
  'needle-multi-value',
  'needle-multi-query',
  'variable-tracking',
  'common-words',
  'frequent-words',
] as const;

export type RecallTaskName = (typeof RECALL_TASK_NAMES)[number];

export const isRecallTaskName = (text: string): text is RecallTaskName =>
  RECALL_TASK_NAMES.some((name) => name === text);
