/**
 * The same passages after contexts of different lengths: what a longer context is worth for the text that follows (the paper's
 * Figure 11 has answers of ZeroSCROLLS in their place).
 *
 * The answers of a passage are the tokens that the longest context gives away and the shortest does not: they complete a bigram that
 * the longest context with the passage up to there has shown, and that the shortest with it has not.
 */
import { BigramMemory } from '../../data/associative-recall.js';
import type { TokenStore } from '../../data/token-store.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import type { LanguageModel } from '../../model/language-model.js';
import { consume, consumeForAll, scoringChunk } from '../scoring/consume.js';
import { requireFinite } from '../scoring/finite.js';
import { scoreTokens } from '../scoring/token-scores.js';

/** Tokens of a passage. */
export const PASSAGE_TOKENS = 256;

export interface PassageOptions {
  /** Tokens before a passage, ascending. */
  readonly contexts: readonly number[];
  /** Passages of a document, spread evenly over what lies after the longest context. */
  readonly passages: number;
  /** Tokens of a passage; default `PASSAGE_TOKENS`. */
  readonly length?: number;
}

/** Sums over the passages of a document with one context. */
export interface PassageLoss {
  readonly context: number;
  readonly tokens: number;
  readonly nats: number;
  readonly answerTokens: number;
  readonly answerNats: number;
}

/** Tokens that a document must have. */
export const passageDocumentTokens = ({ contexts, length = PASSAGE_TOKENS }: PassageOptions): number =>
  Math.max(...contexts) + length;

/** First tokens of the passages of a document; none where it is too short. */
export function passageStarts(documentTokens: number, options: PassageOptions): number[] {
  const spare = documentTokens - passageDocumentTokens(options);
  if (spare < 0) return [];
  const { contexts, passages } = options;
  const starts = Array.from(
    { length: passages },
    (_, index) => Math.max(...contexts) + Math.round(((index + 0.5) / passages) * spare),
  );
  return [...new Set(starts)];
}

/** 1 for the answers among the tokens of a passage that begins at `start`. */
export function passageAnswers(
  document: TokenStore,
  start: number,
  { contexts, length = PASSAGE_TOKENS }: PassageOptions,
): Uint8Array {
  const shown = (context: number): Uint8Array => {
    const ids = new Int32Array(context + length);
    document.read(start - context, ids);
    const bigrams = new BigramMemory();
    const flags = Array.from(ids.subarray(1), (id, i) => Number(bigrams.completes(ids[i] as number, id)));
    return Uint8Array.from(flags.slice(-length));
  };
  const near = shown(Math.min(...contexts));
  return shown(Math.max(...contexts)).map((far, i) => (far === 1 && near[i] === 0 ? 1 : 0));
}

/**
 * Losses of the passages of a document, for each context.
 * @param onTokens called with the tokens done
 * @throws RunError for a loss that is not finite
 */
export async function passageLosses(
  model: LanguageModel,
  tokenizer: Tokenizer,
  document: { readonly tokens: TokenStore; readonly length: number },
  options: PassageOptions,
  onTokens?: (tokens: number) => void,
): Promise<PassageLoss[]> {
  const { contexts, length = PASSAGE_TOKENS } = options;
  const sums = contexts.map((context) => ({ context, tokens: 0, nats: 0, answerTokens: 0, answerNats: 0 }));
  let done = 0;
  for (const start of passageStarts(document.length, options)) {
    const answers = passageAnswers(document.tokens, start, options);
    for (const sum of sums) {
      const losses = await lossesAfter(model, tokenizer, document.tokens, {
        start,
        context: sum.context,
        length,
      });
      losses.forEach((loss, i) => {
        sum.tokens += 1;
        sum.nats += loss;
        sum.answerTokens += answers[i] ?? 0;
        sum.answerNats += answers[i] === 1 ? loss : 0;
      });
      done += sum.context + length;
      onTokens?.(done);
    }
  }
  return sums;
}

/** Losses of the tokens of one passage, after the begin token, if any, and a context of at least one token. */
async function lossesAfter(
  model: LanguageModel,
  { beginOfText, endOfText }: Tokenizer,
  document: TokenStore,
  { start, context, length }: { start: number; context: number; length: number },
): Promise<number[]> {
  const ids = new Int32Array(context + length);
  document.read(start - context, ids);
  const begin = beginOfText ?? endOfText;
  const cache = model.createCache({ maxTokens: context + length });
  const size = scoringChunk(model.config);
  const losses: number[] = [];
  try {
    const before = ids.subarray(0, context - 1);
    consume(model, cache, begin === null ? before : Int32Array.from([begin, ...before]));
    // Token i - 1 predicts token i.
    for (let at = context; at < ids.length; at += size) {
      const end = Math.min(at + size, ids.length);
      const logits = consumeForAll(model, cache, ids.subarray(at - 1, end - 1));
      const targets = Array.from(ids.subarray(at, end), (token, row) => ({ row, token }));
      const scores = await scoreTokens(logits, targets, false);
      logits.dispose();
      for (const { logProbability } of scores) losses.push(requireFinite(-logProbability, 'a loss'));
    }
  } finally {
    cache.dispose();
  }
  return losses;
}
