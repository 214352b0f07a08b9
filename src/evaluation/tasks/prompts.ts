import { promptOpening, type Task, type TaskItem } from '../../data/tasks/task.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import { encodeRequest, textsOfRequest, type EncodedRequest, type Encoder } from '../scoring/likelihood.js';
import { greatest } from '../../sweep/statistics.js';

export interface ItemPrompt {
  readonly item: TaskItem;
  /** Examples the prompt begins with. */
  readonly shots: number;
  /** One request for each option. */
  readonly requests: readonly EncodedRequest[];
}

/** Encodes each text once, as long as it is remembered: the options of an item share most of what is encoded. */
class Encodings implements Encoder {
  private known = new Map<string, Int32Array>();

  constructor(private readonly tokenizer: Tokenizer) {}

  get beginOfText(): number | null {
    return this.tokenizer.beginOfText;
  }

  get endOfText(): number | null {
    return this.tokenizer.endOfText;
  }

  encode(text: string): Int32Array {
    return this.known.get(text) ?? this.tokenizer.encode(text);
  }

  /** Encodes texts together, since each call of a tokenizer may be one of another process. */
  remember(texts: readonly string[]): void {
    const missing = [...new Set(texts)].filter((text) => !this.known.has(text));
    for (const [i, ids] of this.tokenizer.encodeAll(missing).entries()) this.known.set(missing[i] ?? '', ids);
  }

  forget(): void {
    this.known.clear();
  }
}

/**
 * Writes the prompts of a task. A prompt that would be longer than `limit` tokens has fewer examples, as in the protocol of
 * MMLU; an item that is too long by itself loses its beginning.
 */
export class TaskPrompts {
  /** Tokens of the opening with 0, 1, … examples; only measured where there is a limit. */
  private readonly openingLengths: readonly number[];
  private readonly encodings: Encodings;

  /** @param limit tokens of a prompt at most, the continuation and the begin token included; Infinity for no limit */
  constructor(
    private readonly task: Task,
    private readonly tokenizer: Tokenizer,
    private readonly limit: number,
  ) {
    this.encodings = new Encodings(tokenizer);
    const shots = [...task.examples.keys(), task.examples.length];
    this.openingLengths = Number.isFinite(limit)
      ? shots.map((count) => tokenizer.encode(promptOpening(task, count)).length)
      : shots.map(() => 0);
  }

  /** What `prompt` gives for each item; their texts are encoded together. */
  prompts(items: readonly TaskItem[]): ItemPrompt[] {
    const { encodings, task } = this;
    try {
      if (this.isLimited) encodings.remember(items.flatMap((item) => this.bareTexts(item)));
      const shots = items.map((item) => this.mostShots(item));
      const texts = items.flatMap(({ options }, i) => {
        const opening = promptOpening(task, shots[i] ?? 0);
        return options.flatMap(({ context, continuation }) =>
          textsOfRequest(opening + context, continuation),
        );
      });
      encodings.remember(texts);
      return items.map((item, i) => this.prompt(item, shots[i]));
    } finally {
      encodings.forget();
    }
  }

  /** @param most examples that fit by the lengths of the parts */
  prompt(item: TaskItem, most = this.mostShots(item)): ItemPrompt {
    for (let shots = most; ; shots--) {
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
    if (!this.isLimited) return length;
    const bare = Math.max(...this.bareTexts(item).map((text) => this.encodings.encode(text).length));
    const room = this.limit - bare + (this.openingLengths[0] ?? 0);
    const fitting = this.openingLengths.filter((size) => size <= room).length;
    return Math.max(0, fitting - 1);
  }

  /** Whether the number of examples depends on the item. */
  private get isLimited(): boolean {
    return Number.isFinite(this.limit) && this.task.examples.length > 0;
  }

  /** What an item's options begin with where there are no examples. */
  private bareTexts({ options }: TaskItem): string[] {
    return options.map(({ context }) => this.task.opening + context);
  }

  private requests({ options }: TaskItem, shots: number, limit = this.limit): EncodedRequest[] {
    const opening = promptOpening(this.task, shots);
    return options.map(({ context, continuation }) =>
      encodeRequest(this.encodings, opening + context, continuation, shots === 0 ? limit : Infinity),
    );
  }
}
