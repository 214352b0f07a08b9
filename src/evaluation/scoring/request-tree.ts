/** Requests arranged by what their tokens have in common. */
import type { ScoreRequest } from './likelihood.js';

/** A stretch of tokens that several requests share after what the parents share. */
export interface RequestTree {
  /** The shared tokens are positions `from` to `to - 1`. */
  readonly from: number;
  readonly to: number;
  /** Indices of all requests below, in the order of their tokens. */
  readonly requests: readonly number[];
  /** Requests that continue after `to`, one tree for each next token. */
  readonly children: readonly RequestTree[];
}

/** @param from tokens that all requests are known to share and that the tree leaves out */
export function requestTree(requests: readonly ScoreRequest[], from = 0): RequestTree {
  const order = requests.map((_, index) => index);
  const tokensOf = (index: number): Int32Array => (requests[index] as ScoreRequest).tokens;
  order.sort((a, b) => compare(tokensOf(a), tokensOf(b)) || a - b);
  return grow(order, tokensOf, from);
}

/** Tokens a model must consume for the whole tree. */
export function treeTokens(tree: RequestTree): number {
  return tree.children.reduce((sum, child) => sum + treeTokens(child), tree.to - tree.from);
}

function compare(a: Int32Array, b: Int32Array): number {
  const at = firstDifference(a, b, 0);
  if (at === a.length || at === b.length) return a.length - b.length;
  return (a[at] as number) - (b[at] as number);
}

function firstDifference(a: Int32Array, b: Int32Array, from: number): number {
  const end = Math.min(a.length, b.length);
  let at = from;
  while (at < end && a[at] === b[at]) at += 1;
  return at;
}

function grow(order: readonly number[], tokensOf: (index: number) => Int32Array, from: number): RequestTree {
  const [first, last] = [order[0], order.at(-1)];
  if (first === undefined || last === undefined) return { from, to: from, requests: [], children: [] };
  // In sorted order, what the first and the last share is shared by all.
  const to = firstDifference(tokensOf(first), tokensOf(last), from);
  const groups = new Map<number, number[]>();
  for (const index of order) {
    const next = tokensOf(index)[to];
    if (next === undefined) continue;
    const group = groups.get(next);
    if (group) group.push(index);
    else groups.set(next, [index]);
  }
  const children = [...groups.values()].map((group) => grow(group, tokensOf, to));
  return { from, to, requests: order, children };
}
