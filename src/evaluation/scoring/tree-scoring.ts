/** Scores requests by walking the tree of their common prefixes: every shared token is consumed once. */
import type { ModelCache } from '../../model/state/state-cache.js';
import type { LanguageModel } from '../../model/language-model.js';
import type * as tf from '../../tf.js';
import { consume, consumeForAll, consumeForLast, scoringChunk } from './consume.js';
import type { Score, ScoreRequest } from './likelihood.js';
import type { RequestTree } from './request-tree.js';
import type { SharedPrefix } from './shared-prefix.js';
import { scoreTokens } from './token-scores.js';
import { least } from '../../sweep/statistics.js';

interface Sum {
  logLikelihood: number;
  tokens: number;
  greedy: boolean;
}

/** A token that follows row `row` of some logits: position `position` of all these requests. */
interface RowTargets {
  readonly row: number;
  readonly position: number;
  readonly requests: readonly number[];
}

export interface TreeOptions {
  readonly greedy: boolean;
  /** What comes before the tree. */
  readonly prefix?: SharedPrefix;
}

export async function scoreTree(
  model: LanguageModel,
  requests: readonly ScoreRequest[],
  tree: RequestTree,
  { greedy, prefix }: TreeOptions,
): Promise<Score[]> {
  const walk = new Walk(model, requests, greedy);
  const maxTokens = Math.max(0, ...requests.map(({ tokens }) => tokens.length));
  await walk.visit(tree, prefix?.fork() ?? model.createCache({ maxTokens }));
  return walk.sums.map((sum) => ({ ...sum, greedy: greedy ? sum.greedy : null }));
}

class Walk {
  readonly sums: Sum[];

  constructor(
    private readonly model: LanguageModel,
    private readonly requests: readonly ScoreRequest[],
    private readonly greedy: boolean,
  ) {
    this.sums = requests.map(() => ({ logLikelihood: 0, tokens: 0, greedy: true }));
  }

  /**
   * Scores all requests of a subtree from position `tree.from` + 1 on.
   * @param cache holds the tokens before `tree.from`; disposed here
   */
  async visit(tree: RequestTree, cache: ModelCache): Promise<void> {
    const last = await this.consumeEdge(tree, cache);
    if (last !== null) {
      await this.addFirstTokens(last, tree.children);
      last.dispose();
    }
    // A child of one token that ends there has been scored: it needs no cache.
    const longer = tree.children.filter(({ from, to, children }) => to - from > 1 || children.length > 0);
    for (const child of longer.slice(0, -1)) await this.visit(child, cache.fork());
    const final = longer.at(-1);
    if (final === undefined) cache.dispose();
    else await this.visit(final, cache);
  }

  /** Consumes the shared tokens; the logits [1, V] after them if the children's first tokens are scored. */
  private async consumeEdge(tree: RequestTree, cache: ModelCache): Promise<tf.Tensor2D | null> {
    const { from, to, requests, children } = tree;
    const ids = this.tokensOf(requests[0] ?? 0).subarray(from, to);
    const scoredFrom = least(requests.map((index) => this.startOf(index)));
    // Logits of position p predict token p + 1: those from the first scored token of this stretch on are needed.
    const first = Math.max(from, scoredFrom - 1);
    const needsLast = children.length > 0 && scoredFrom <= to;
    if (first >= to - 1) {
      if (needsLast) return consumeForLast(this.model, cache, ids);
      // What follows a leaf's last token is not asked, nor need it be consumed.
      if (children.length > 0) consume(this.model, cache, ids);
      return null;
    }
    consume(this.model, cache, ids.subarray(0, first - from));
    return this.consumeScored(tree, cache, first, needsLast);
  }

  /** Consumes and scores positions `first` + 1 to `tree.to` - 1. */
  private async consumeScored(
    { from, to, requests }: RequestTree,
    cache: ModelCache,
    first: number,
    needsLast: boolean,
  ): Promise<tf.Tensor2D | null> {
    const tokens = this.tokensOf(requests[0] ?? 0);
    const size = scoringChunk(this.model.config);
    const end = needsLast ? to : to - 1;
    let last: tf.Tensor2D | null = null;
    for (let at = Math.max(first, from); at < end; at += size) {
      const stop = Math.min(at + size, end);
      const logits = consumeForAll(this.model, cache, tokens.subarray(at, stop));
      const rows = Array.from({ length: Math.min(stop, to - 1) - at }, (_, row) => row);
      const targets = rows.map((row) => ({ row, position: at + row + 1, requests }));
      await this.add(logits, targets);
      if (stop === to) last = logits.slice([stop - at - 1, 0], [1, -1]);
      logits.dispose();
    }
    return last;
  }

  private addFirstTokens(last: tf.Tensor2D, children: readonly RequestTree[]): Promise<void> {
    return this.add(
      last,
      children.map(({ from, requests }) => ({ row: 0, position: from, requests })),
    );
  }

  /** Adds log-probabilities of tokens to those of their requests that score these positions. */
  private async add(logits: tf.Tensor2D, targets: readonly RowTargets[]): Promise<void> {
    const scored = targets.filter(({ position, requests }) =>
      requests.some((index) => position >= this.startOf(index)),
    );
    const pairs = scored.map(({ row, position, requests }) => ({
      row,
      token: this.tokensOf(requests[0] ?? 0)[position] as number,
    }));
    const scores = await scoreTokens(logits, pairs, this.greedy);
    for (const [at, { position, requests }] of scored.entries()) {
      for (const index of requests) {
        if (position < this.startOf(index)) continue;
        const sum = this.sums[index] as Sum;
        sum.logLikelihood += scores[at]?.logProbability ?? NaN;
        sum.tokens += 1;
        sum.greedy &&= scores[at]?.greedy ?? false;
      }
    }
  }

  private tokensOf(index: number): Int32Array {
    return (this.requests[index] as ScoreRequest).tokens;
  }

  private startOf(index: number): number {
    return (this.requests[index] as ScoreRequest).start;
  }
}
