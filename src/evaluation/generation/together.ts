/** Continues several prompts together: what each is given does not depend on the others. */
import type { Tokenizer } from '../../data/tokenizer.js';
import type { LanguageModel } from '../../model/language-model.js';
import { defaultChunkSize } from '../../model/costs.js';
import { requireFiniteRow } from '../scoring/finite.js';
import { forkedPageSize } from '../scoring/lent-caches.js';
import { type Sequence, SequenceRunner } from './sequence-runner.js';
import type { TokenChoice } from './sampling.js';
import { TextStream } from './text-stream.js';

/** A prompt, and how it is continued. */
export interface Continued {
  /** At least one token. */
  readonly prompt: Int32Array;
  readonly choose: TokenChoice;
  /** Called with the tokens of the prompt read so far. */
  readonly onRead?: (tokens: number) => void;
}

export interface TogetherOptions {
  /** Prompts at work at most, from 1. */
  readonly batch: number;
  /** Tokens to generate at most. */
  readonly limit: number;
  /** Tokens that end a text and are not part of it. */
  readonly stopTokens: readonly number[];
  /** Ends all that is at work: the promises are rejected with its reason. */
  readonly signal?: AbortSignal;
}

/**
 * The tokens that continue each prompt, one promise a prompt, in their order. Prompts are read in the chunks in which one alone is.
 * Tokens do not depend on the batch, but for rounding in the last digits of logits where an engine's matmul rounds by the
 * number of rows.
 * @throws RunError, each promise for itself, when logits are not finite or computing fails
 */
export function continueTogether(
  model: LanguageModel,
  continued: readonly Continued[],
  { batch, limit, stopTokens, signal }: TogetherOptions,
): Promise<number[]>[] {
  const longest = Math.max(0, ...continued.map(({ prompt }) => prompt.length));
  const runner = new SequenceRunner(model, {
    batch,
    pageSize: forkedPageSize(longest + limit),
    stretch: defaultChunkSize(model.config),
  });
  const all = continued.map(async ({ prompt, choose, onRead }) => {
    const tokens: number[] = [];
    const sequence: Sequence = {
      prompt,
      scoredFrom: prompt.length,
      onRead,
      choose: (logits) => {
        requireFiniteRow(logits);
        const token = choose(logits);
        if (stopTokens.includes(token)) return null;
        tokens.push(token);
        return tokens.length < limit ? token : null;
      },
    };
    await runner.run(sequence, signal);
    return tokens;
  });
  // One may fail while another is awaited.
  for (const tokens of all) tokens.catch(() => undefined);
  return all;
}

/** The text that tokens add to the prompt before them. */
export function textAfter(tokenizer: Tokenizer, prompt: Int32Array, tokens: readonly number[]): string {
  const stream = new TextStream(tokenizer, prompt);
  for (const token of tokens) stream.hold(token);
  return stream.end();
}
