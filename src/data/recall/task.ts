/** What a recall task is: a generator of sequences of symbols with questions whose answers are in the sequence. */
import type { Random } from '../../random.js';
import type { RecallTaskName } from './names.js';

export interface RecallOptions {
  /** Tokens of a sequence. */
  readonly length: number;
  /** How much there is to recall; each task says what it counts. */
  readonly items: number;
  /** Tokens are ids from 0 to below it. */
  readonly vocabSize: number;
}

/** One question. It is answered if the likeliest token is the right one at every position. */
export interface RecallQuestion {
  /** Positions at which an answer token is predicted, ascending. */
  readonly positions: readonly number[];
  readonly answers: readonly number[];
}

export interface RecallExample {
  /** `length` ids. */
  readonly tokens: Int32Array;
  readonly questions: readonly RecallQuestion[];
}

export interface RecallTask {
  readonly name: RecallTaskName;
  /** Changes whenever the same seed gives other sequences. */
  readonly version: number;
  readonly description: string;
  /** What `items` counts. */
  readonly counts: string;
  /** Why there are no such sequences, in a few words; null where there are. */
  refusal(options: RecallOptions): string | null;
  /** Draws one sequence. `refusal` must be null for the options. */
  make(options: RecallOptions, random: Random): RecallExample;
}
