import { fewShotPrefix, LETTERS, questionText, type Question, type Subject } from '../../data/tasks/mmlu.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import { encodeRequest, type ScoreRequest } from '../scoring/likelihood.js';

export interface QuestionPrompt {
  readonly question: Question;
  /** Examples the prompt begins with. */
  readonly shots: number;
  /** One request for each letter. */
  readonly requests: readonly ScoreRequest[];
}

/**
 * Writes the prompts of a subject. A prompt that would be longer than `limit` tokens has fewer examples, as in the original
 * protocol; a question that is too long by itself loses its beginning.
 */
export class MmluPrompts {
  private readonly prefixes: readonly string[];
  private readonly prefixLengths: readonly number[];

  constructor(
    private readonly subject: Subject,
    private readonly tokenizer: Tokenizer,
    private readonly limit: number,
  ) {
    const shots = [...subject.examples.keys(), subject.examples.length];
    this.prefixes = shots.map((count) => fewShotPrefix(subject, count));
    this.prefixLengths = Number.isFinite(limit)
      ? this.prefixes.map((prefix) => tokenizer.encode(prefix).length)
      : shots.map(() => 0);
  }

  prompt(question: Question): QuestionPrompt {
    for (let shots = this.mostShots(question); ; shots--) {
      const requests = this.requests(question, shots);
      const fits = requests.every(({ tokens }) => tokens.length <= this.limit);
      if (fits || shots === 0) return { question, shots, requests };
    }
  }

  /** Tokens with which all prompts of so many examples begin, the begin token included. */
  prefixTokens(shots: number): Int32Array {
    const { beginOfText } = this.tokenizer;
    const text = this.tokenizer.encode(this.prefixes[shots] ?? '');
    return beginOfText === null ? text : Int32Array.from([beginOfText, ...text]);
  }

  /** Examples that fit, by the lengths of the parts: the whole may come out a token or two longer. */
  private mostShots(question: Question): number {
    const { length } = this.subject.examples;
    if (!Number.isFinite(this.limit)) return length;
    const bare = this.tokenizer.encode((this.prefixes[0] ?? '') + questionText(question)).length;
    const room = this.limit - bare + (this.prefixLengths[0] ?? 0);
    const fitting = this.prefixLengths.filter((size) => size <= room).length;
    return Math.max(0, fitting - 1);
  }

  private requests(question: Question, shots: number): ScoreRequest[] {
    const context = (this.prefixes[shots] ?? '') + questionText(question);
    const limit = shots === 0 ? this.limit : Infinity;
    return LETTERS.map((letter) => encodeRequest(this.tokenizer, context, ` ${letter}`, limit));
  }
}
