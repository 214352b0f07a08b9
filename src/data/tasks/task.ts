/** What a model is asked and how its answers are judged: the one shape of all tasks, as data. */

/** A text and a continuation whose likelihood is asked. */
export interface ScoredOption {
  readonly context: string;
  readonly continuation: string;
}

export interface TaskItem {
  /** Number among the task's items, from 0. */
  readonly index: number;
  readonly options: readonly ScoredOption[];
  /** Index of the right option. */
  readonly gold: number;
}

/** `choice`: the likeliest option counts. `cloze`: the one continuation must be what greedy decoding gives. */
export type TaskKind = 'choice' | 'cloze';

/**
 * `accuracy`: of the likeliest option, lm-evaluation-harness' `acc`. `accuracy_normalized`: of the one with the highest
 * likelihood per character, its `acc_norm`. `perplexity`: exp of the mean loss per continuation.
 */
export type TaskMetric = 'accuracy' | 'accuracy_normalized' | 'perplexity';

export interface Task {
  readonly name: string;
  readonly kind: TaskKind;
  readonly metrics: readonly TaskMetric[];
  /** Raised with every change of prompts or metrics: figures of different versions cannot be compared. */
  readonly version: number;
  /** Of the bytes of all files read, items and examples. */
  readonly sha256: string;
  /** What every prompt begins with. */
  readonly opening: string;
  /** Solved examples in their order, each with what separates it from the next text. */
  readonly examples: readonly string[];
  readonly items: readonly TaskItem[];
  /** Accuracy of guessing; null for cloze tasks. */
  readonly chance: number | null;
}

/** What the prompts of a task with so many examples begin with. */
export const promptOpening = ({ opening, examples }: Task, shots: number): string =>
  opening + examples.slice(0, shots).join('');

/** The text of an item with its right answer, as an example for others. */
export function solvedExample({ options, gold }: Pick<TaskItem, 'options' | 'gold'>): string {
  const { context = '', continuation = '' } = options[gold] ?? {};
  return `${context}${continuation}\n\n`;
}

/** Expected accuracy of guessing. */
export const chanceOf = (items: readonly TaskItem[]): number =>
  items.reduce((sum, { options }) => sum + 1 / options.length, 0) / items.length;
