/** Loss of long documents against position: what more context is worth (the long-sequence figure of the paper). */
import { BigramMemory } from '../../data/associative-recall.js';
import type { TokenStore } from '../../data/token-store.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import type { LanguageModel } from '../../model/language-model.js';
import { consumeForAll, scoringChunk } from '../scoring/consume.js';
import { requireFinite } from '../scoring/finite.js';
import { scoreTokens } from '../scoring/token-scores.js';

export interface PositionLoss {
  /** Tokens of the document up to here. */
  readonly position: number;
  /** Of them, tokens with a loss: all, or all but the first where the tokenizer has no token to begin with. */
  readonly tokens: number;
  /** Sum of their losses in nats. */
  readonly nats: number;
  /** Of these tokens, those that complete a bigram the document has shown before, and the sum of their losses. */
  readonly hitTokens: number;
  readonly hitNats: number;
}

/** Positions from `smallest` on, doubling, and the end. */
export function doublingPositions(end: number, smallest = 256): number[] {
  const positions: number[] = [];
  for (let position = smallest; position < end; position *= 2) positions.push(position);
  return [...positions, end];
}

/**
 * Losses of a document from its beginning, summed up to each of the ascending `positions`. The document is read in pieces
 * of bounded size with one cache: every token sees all tokens before it.
 * @param onTokens called with the tokens done
 * @throws RunError for a loss that is not finite
 */
export async function documentLosses(
  model: LanguageModel,
  tokenizer: Tokenizer,
  document: TokenStore,
  positions: readonly number[],
  onTokens?: (tokens: number) => void,
): Promise<PositionLoss[]> {
  const begin = tokenizer.beginOfText ?? tokenizer.endOfText;
  const offset = begin === null ? 0 : 1;
  const end = positions.at(-1) ?? 0;
  const size = scoringChunk(model.config);
  const cache = model.createCache({ maxTokens: end + offset });
  const losses: PositionLoss[] = [];
  let [nats, tokens, hitNats, hitTokens, next] = [0, 0, 0, 0, 0];
  const bigrams = new BigramMemory();
  try {
    // Input i of the sequence (begin token, document) predicts input i + 1; the last token is predicted only.
    for (let at = 0; at < end + offset - 1; at += size) {
      const count = Math.min(size, end + offset - 1 - at);
      const ids = window(document, begin, at, count + 1);
      const logits = consumeForAll(model, cache, ids.subarray(0, count));
      const targets = Array.from({ length: count }, (_, row) => ({ row, token: ids[row + 1] as number }));
      const scores = await scoreTokens(logits, targets, false);
      logits.dispose();
      for (const [row, { logProbability }] of scores.entries()) {
        const loss = requireFinite(-logProbability, 'a loss');
        nats += loss;
        tokens += 1;
        if (bigrams.completes(ids[row] as number, ids[row + 1] as number)) {
          hitTokens += 1;
          hitNats += loss;
        }
        // The token just scored is number `position` of the document, from 1.
        const position = at + row + 2 - offset;
        if (position === positions[next]) {
          losses.push({ position, tokens, nats, hitTokens, hitNats });
          next += 1;
        }
      }
      onTokens?.(Math.min(end, at + count));
    }
  } finally {
    cache.dispose();
  }
  return losses;
}

/** Inputs `at` to `at + count - 1` of the sequence that is the begin token, if any, and the document. */
function window(document: TokenStore, begin: number | null, at: number, count: number): Int32Array {
  const ids = new Int32Array(count);
  if (begin === null) document.read(at, ids);
  else if (at > 0) document.read(at - 1, ids);
  else {
    ids[0] = begin;
    document.read(0, ids.subarray(1));
  }
  return ids;
}
