/**
 * The one scorer of all likelihood tasks: log-likelihoods of continuations under a model, with what prompts share
 * computed once.
 */
import type { LanguageModel } from '../../model/language-model.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import { requireFinite } from './finite.js';
import { requestTree, treeTokens, type RequestTree } from './request-tree.js';
import { scorePadded } from './padded-scoring.js';
import type { SharedPrefix } from './shared-prefix.js';
import { scoreTree } from './tree-scoring.js';

/** The likelihood of `tokens[start …]` given `tokens[0 … start - 1]` is asked; start is at least 1. */
export interface ScoreRequest {
  readonly tokens: Int32Array;
  readonly start: number;
}

/** A request made from texts. */
export interface EncodedRequest extends ScoreRequest {
  /** Tokens left out at the beginning, because there were too many. */
  readonly dropped: number;
}

export interface Score {
  /** Sum of the scored tokens' log-probabilities, in nats. */
  readonly logLikelihood: number;
  /** Tokens scored. */
  readonly tokens: number;
  /** Whether greedy decoding would give exactly these tokens; null where that was not asked. */
  readonly greedy: boolean | null;
}

export interface ScoreOptions {
  /** What all requests begin with, before the first scored token. */
  readonly prefix?: SharedPrefix;
  /** Also find out whether each continuation is what greedy decoding gives. */
  readonly greedy?: boolean;
}

/** Sharing prefixes pays when it saves at least this share of the tokens; else requests run side by side, padded. */
const SAVING_WORTH_FORKS = 0.3;

/**
 * Scores in the order of the requests. Which route is taken depends on the requests alone.
 * @throws RunError when a log-likelihood is not finite: no answer can be read off it
 */
export async function scoreRequests(
  model: LanguageModel,
  requests: readonly ScoreRequest[],
  { greedy = false, prefix }: ScoreOptions = {},
): Promise<Score[]> {
  checkRequests(requests, prefix);
  const tree = requestTree(requests, prefix?.tokens.length);
  const scores = await (greedy || prefix !== undefined || sharingPays(requests, tree)
    ? scoreTree(model, requests, tree, { greedy, prefix })
    : scorePadded(model, requests));
  for (const { logLikelihood } of scores) requireFinite(logLikelihood, 'a log-likelihood');
  return scores;
}

function sharingPays(requests: readonly ScoreRequest[], tree: RequestTree): boolean {
  const all = requests.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return treeTokens(tree) <= (1 - SAVING_WORTH_FORKS) * all;
}

function checkRequests(requests: readonly ScoreRequest[], prefix: SharedPrefix | undefined): void {
  for (const { tokens, start } of requests) {
    const first = prefix ? prefix.tokens.length + 1 : 1;
    if (start >= first && start < tokens.length && (prefix?.begins(tokens) ?? true)) continue;
    throw new RangeError(`a request of ${tokens.length} tokens cannot be scored from ${start} on`);
  }
}

/**
 * The request for `continuation` after `context`. The text is encoded as a whole, as in lm-evaluation-harness: tokens that
 * reach over the boundary belong to the continuation.
 * @param limit of a text with more tokens, the begin token included, only the last are kept
 */
export function encodeRequest(
  tokenizer: Tokenizer,
  context: string,
  continuation: string,
  limit = Infinity,
): EncodedRequest {
  const before = tokenizer.encode(context);
  const whole = tokenizer.encode(context + continuation);
  let start = 0;
  while (start < before.length && start < whole.length - 1 && before[start] === whole[start]) start += 1;
  // Without any context, the end of the document before stands in for it.
  const begin = tokenizer.beginOfText ?? (start === 0 ? tokenizer.endOfText : null);
  const opening = begin === null ? [] : [begin];
  // At least one token must come before the first that is scored.
  const droppable = start - (1 - opening.length);
  const dropped = Math.max(0, Math.min(whole.length + opening.length - limit, droppable));
  return {
    dropped,
    tokens: Int32Array.from([...opening, ...whole.subarray(dropped)]),
    start: start - dropped + opening.length,
  };
}
