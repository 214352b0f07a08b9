/**
 * The one scorer of all likelihood tasks: log-likelihoods of continuations under a model, with what prompts share
 * computed once and the rest packed into passes of many sequences.
 */
import type { LanguageModel } from '../../model/language-model.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import { requireFinite } from './finite.js';
import { MOST_SEQUENCES, scoreTrees } from './packed-scoring.js';
import { requestTree } from './request-tree.js';
import type { SharedPrefix } from './shared-prefix.js';

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
  /**
   * Sequences computed in one pass at most; default 128. Scores do not depend on it, but for rounding in the last digits where
   * an engine's matrix product rounds by the number of rows.
   */
  readonly batch?: number;
}

/**
 * Scores in the order of the requests; what they have in common is computed once.
 * @throws RunError when a log-likelihood is not finite: no answer can be read off it
 */
export async function scoreRequests(
  model: LanguageModel,
  requests: readonly ScoreRequest[],
  { prefix, ...options }: ScoreOptions = {},
): Promise<Score[]> {
  const [scores = []] = await scoreGroups(model, [{ requests, prefix }], options);
  return scores;
}

/** Requests that may have something in common. */
export interface ScoreGroup {
  readonly requests: readonly ScoreRequest[];
  readonly prefix?: SharedPrefix;
}

/**
 * `scoreRequests` of several groups together. How a group is scored does not depend on the others.
 * @throws RunError when a log-likelihood is not finite
 */
export async function scoreGroups(
  model: LanguageModel,
  groups: readonly ScoreGroup[],
  { greedy = false, batch = MOST_SEQUENCES }: Omit<ScoreOptions, 'prefix'> = {},
): Promise<Score[][]> {
  for (const { requests, prefix } of groups) checkRequests(requests, prefix);
  const trees = groups.map(({ requests, prefix }) => ({
    requests,
    prefix,
    tree: requestTree(requests, prefix?.tokens.length),
  }));
  const scores = await scoreTrees(model, trees, { greedy, batch });
  for (const { logLikelihood } of scores.flat()) requireFinite(logLikelihood, 'a log-likelihood');
  return scores;
}

function checkRequests(requests: readonly ScoreRequest[], prefix: SharedPrefix | undefined): void {
  for (const { tokens, start } of requests) {
    const first = prefix ? prefix.tokens.length + 1 : 1;
    if (start >= first && start < tokens.length && (prefix?.begins(tokens) ?? true)) continue;
    throw new RangeError(`a request of ${tokens.length} tokens cannot be scored from ${start} on`);
  }
}

/** What `encodeRequest` needs of a tokenizer. */
export type Encoder = Pick<Tokenizer, 'encode' | 'beginOfText' | 'endOfText'>;

/** The texts that `encodeRequest` encodes. */
export const textsOfRequest = (context: string, continuation: string): [string, string] => [
  context.trimEnd(),
  context + continuation,
];

/** Raised with every change of `encodeRequest`: a resumed run does not mix scores of different rules. */
export const ENCODING_VERSION = 2;

/**
 * The request for `continuation` after `context`, by the rule of lm-evaluation-harness (`TemplateLM._encode_pair`): the context
 * has the tokens that it has alone, and of the text as a whole the tokens after so many of them are scored. White space at the end
 * of the context belongs to the continuation. Where a token reaches over the boundary, the two parts are not the tokens of the whole.
 * @param limit of a text with more tokens, the begin token included, only the last are kept
 */
export function encodeRequest(
  tokenizer: Encoder,
  context: string,
  continuation: string,
  limit = Infinity,
): EncodedRequest {
  const { tokens: whole, start } = encodePair(tokenizer, context, continuation);
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

function encodePair(tokenizer: Encoder, context: string, continuation: string): ScoreRequest {
  const [before, whole] = textsOfRequest(context, continuation).map((text) => tokenizer.encode(text)) as [
    Int32Array,
    Int32Array,
  ];
  if (whole.length > before.length) {
    return { tokens: Int32Array.of(...before, ...whole.subarray(before.length)), start: before.length };
  }
  // The harness has nothing to score there: what differs from the context is scored, at least one token.
  const differing = whole.findIndex((token, at) => token !== before[at]);
  return { tokens: whole, start: Math.max(0, differing < 0 ? whole.length - 1 : differing) };
}
