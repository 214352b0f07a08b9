/** Continues a prompt as a stream of text. */
import { setImmediate } from 'node:timers/promises';
import type { Tokenizer } from '../../data/tokenizer.js';
import type { Engine } from '../../engines/engine.js';
import { UsageError } from '../../errors.js';
import type { LanguageModel } from '../../model/language-model.js';
import { consumeForLast } from '../scoring/consume.js';
import { generateTokens } from './generation.js';
import type { Sampler } from './sampling.js';
import { TextStream } from './text-stream.js';

export interface GenerateOptions {
  /** A text, or its tokens as `promptTokens` gives them. */
  readonly prompt: string | Int32Array;
  readonly sampler: Sampler;
  /** Tokens to generate at most. */
  readonly limit: number;
  /** Continue after the end-of-text token. */
  readonly ignoreEnd: boolean;
  readonly onText: (text: string) => void;
  /** Called with the tokens of the prompt read so far. */
  readonly onPrompt?: (tokens: number) => void;
}

export interface GenerateSpeed {
  readonly promptTokens: number;
  readonly prefillSeconds: number;
  readonly generatedTokens: number;
  /** From the end of the prefill to the last token. */
  readonly decodeSeconds: number;
}

/**
 * Tokens of a prompt: the begin token, where the tokenizer has one, and the text. An empty prompt begins a new text: it is
 * the begin token, or the end of the text before.
 * @throws UsageError for an empty prompt where the tokenizer has neither
 */
export function promptTokens(tokenizer: Tokenizer, prompt: string): Int32Array {
  const text = tokenizer.encode(prompt);
  const opening = tokenizer.beginOfText ?? (text.length === 0 ? tokenizer.endOfText : null);
  const ids = opening === null ? text : Int32Array.from([opening, ...text]);
  if (ids.length === 0)
    throw new UsageError('the prompt is empty, and this tokenizer has no token to begin with');
  return ids;
}

/**
 * Continues a prompt and disposes of what it made.
 * @throws RunError when the model's logits are not finite; the text before has been handed over
 */
export async function generate(
  model: LanguageModel,
  tokenizer: Tokenizer,
  engine: Engine,
  { prompt, sampler, limit, ignoreEnd, onText, onPrompt }: GenerateOptions,
): Promise<GenerateSpeed> {
  const ids = typeof prompt === 'string' ? promptTokens(tokenizer, prompt) : prompt;
  const cache = model.createCache({ maxTokens: ids.length + limit });
  const started = performance.now();
  const logits = consumeForLast(model, cache, ids, onPrompt);
  await engine.synchronize();
  const prefilled = performance.now();
  const stream = new TextStream(tokenizer, ids);
  let generatedTokens = 0;
  const stopTokens = ignoreEnd ? [] : tokenizer.stopTokens;
  const options = { sampler, limit, stopTokens, lastUse: true };
  for await (const token of generateTokens(model, cache, logits, options)) {
    generatedTokens += 1;
    onText(stream.push(token));
    // Lets the process hear that nobody reads the text any more.
    await setImmediate();
  }
  onText(stream.end());
  cache.dispose();
  return {
    promptTokens: ids.length,
    prefillSeconds: (prefilled - started) / 1000,
    generatedTokens,
    decodeSeconds: (performance.now() - prefilled) / 1000,
  };
}
