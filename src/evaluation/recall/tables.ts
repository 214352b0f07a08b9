/** The table `yoco eval-recall` writes: accuracy against length and against the size of the state. */
import type { RecallTaskName } from '../../data/recall/index.js';
import type { TableSchema } from '../../results/typed.js';
import { MODEL_COLUMNS, type ModelKey } from '../../sweep/model-key.js';
import { WEIGHTS_COLUMN, type WeightsOrigin } from '../candidates.js';

export interface RecallKey extends ModelKey {
  readonly task: RecallTaskName;
  readonly version: number;
  /** Tokens of a sequence. */
  readonly length: number;
  /** How much there is to recall. */
  readonly items: number;
}

export interface RecallFigures {
  readonly weights: WeightsOrigin;
  readonly parameters: number;
  /** Bytes of states and windows, which do not grow. */
  readonly stateBytes: number;
  /** Bytes of keys and values of a sequence of this length. */
  readonly keyValueBytes: number;
  readonly sequences: number;
  readonly questions: number;
  readonly correct: number;
  readonly accuracy: number;
  /** Standard error over the sequences; null of one. */
  readonly accuracyError: number | null;
  readonly tokensPerSecond: number;
}

export const RECALL_SCHEMA: TableSchema<RecallKey, RecallFigures> = {
  name: 'eval-recall',
  columns: [
    ...MODEL_COLUMNS,
    { name: 'task', kind: 'key', description: 'recall task' },
    { name: 'version', kind: 'key', description: 'of the task: another one has other sequences' },
    { name: 'length', kind: 'key', description: 'tokens of a sequence', display: 'count' },
    { name: 'items', kind: 'key', description: 'how much there is to recall: pairs, needles, entries' },
    WEIGHTS_COLUMN,
    { name: 'parameters', kind: 'result', description: 'parameters of the model', display: 'count' },
    {
      name: 'state_bytes',
      kind: 'result',
      description: 'states and windows of a sequence, which do not grow with it, by formula',
      display: 'bytes',
    },
    {
      name: 'key_value_bytes',
      kind: 'result',
      description: 'keys and values of a sequence of this length, by formula',
      display: 'bytes',
    },
    { name: 'sequences', kind: 'result', description: 'sequences' },
    { name: 'questions', kind: 'result', description: 'questions in them' },
    { name: 'correct', kind: 'result', description: 'questions of which every token of the answer is right' },
    {
      name: 'accuracy',
      kind: 'result',
      description: 'share of them',
      digits: 6,
      display: 'percent',
      better: 'higher',
    },
    {
      name: 'accuracy_error',
      kind: 'result',
      description: 'standard error over the sequences',
      digits: 6,
      display: 'percent',
    },
    {
      name: 'tokens_per_second',
      kind: 'timing',
      description: 'tokens read over the time they took',
      digits: 1,
      better: 'higher',
    },
  ],
};
