import { promptOpening, type Task, type TaskItem } from '../../data/tasks/task.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import { encodeRequest, type EncodedRequest } from '../scoring/likelihood.js';
import { greatest } from '../../sweep/statistics.js';

export interface ItemPrompt {
  readonly item: TaskItem;
  /** Examples the prompt begins with. */
  readonly shots: number;
  /** One request for each option. */
  readonly requests: readonly EncodedRequest[];
}

/**
 * Writes the prompts of a task. A prompt that would be longer than `limit` tokens has fewer examples, as in the protocol of
 * MMLU; an item that is too long by itself loses its beginning.
 */
export class TaskPrompts {
  /** Tokens of the opening with 0, 1, … examples; only measured where there is a limit. */
  private readonly openingLengths: readonly number[];

  /** @param limit tokens of a prompt at most, the continuation and the begin token included; Infinity for no limit */
  constructor(
    private readonly task: Task,
    private readonly tokenizer: Tokenizer,
    private readonly limit: number,
  ) {
    const shots = [...task.examples.keys(), task.examples.length];
    this.openingLengths = Number.isFinite(limit)
      ? shots.map((count) => tokenizer.encode(promptOpening(task, count)).length)
      : shots.map(() => 0);
  }

  prompt(item: TaskItem): ItemPrompt {
    for (let shots = this.mostShots(item); ; shots--) {
      const requests = this.requests(item, shots);
      const fits = requests.every(({ tokens }) => tokens.length <= this.limit);
      if (fits || shots === 0) return { item, shots, requests };
    }
  }

  /** Tokens of the longest option of an item without examples. */
  bareLength(item: TaskItem): number {
    return greatest(this.requests(item, 0, Infinity).map(({ tokens }) => tokens.length));
  }

  /** Tokens with which all prompts of so many examples begin, the begin token included. */
  openingTokens(shots: number): Int32Array {
    const { beginOfText } = this.tokenizer;
    const text = this.tokenizer.encode(promptOpening(this.task, shots));
    return beginOfText === null ? text : Int32Array.from([beginOfText, ...text]);
  }

  /** Examples that fit, by the lengths of the parts: the whole may come out a token or two longer. */
  private mostShots(item: TaskItem): number {
    const { length } = this.task.examples;
    if (!Number.isFinite(this.limit) || length === 0) return length;
    const { opening } = this.task;
    const bare = Math.max(
      ...item.options.map(({ context }) => this.tokenizer.encode(opening + context).length),
    );
    const room = this.limit - bare + (this.openingLengths[0] ?? 0);
    const fitting = this.openingLengths.filter((size) => size <= room).length;
    return Math.max(0, fitting - 1);
  }

  private requests({ options }: TaskItem, shots: number, limit = this.limit): EncodedRequest[] {
    const opening = promptOpening(this.task, shots);
    return options.map(({ context, continuation }) =>
      encodeRequest(this.tokenizer, opening + context, continuation, shots === 0 ? limit : Infinity),
    );
  }
}
