/**
 * Scores requests by walking trees of their common prefixes: every shared token is consumed once, and the branches of all trees
 * that are at work are packed into one pass. Where a branch is cut into passes depends on the branch alone, so that a score
 * does not depend on what else is scored.
 */
import { defaultChunkSize } from '../../model/costs.js';
import type { LanguageModel } from '../../model/language-model.js';
import { scoringChunk } from './consume.js';
import type { Score, ScoreRequest } from './likelihood.js';
import { LentCaches, type LentCache } from './lent-caches.js';
import type { RequestTree } from './request-tree.js';
import type { SharedPrefix } from './shared-prefix.js';
import { scoreTokens } from './token-scores.js';
import { greatest, least } from '../../sweep/statistics.js';

/** Tokens of a pass at most, but for a single sequence's chunk: with more of them the matrix products become no faster. */
export const PASS_TOKENS = 4096;
/** Sequences of a pass at most by default. */
export const MOST_SEQUENCES = 128;

/** Requests that share what they have in common, and what comes before all of them. */
export interface Planted {
  readonly requests: readonly ScoreRequest[];
  readonly tree: RequestTree;
  readonly prefix?: SharedPrefix;
}

export interface PassOptions {
  /** Also find out whether each continuation is what greedy decoding gives. */
  readonly greedy: boolean;
  /** Sequences of a pass at most. */
  readonly batch: number;
}

/** The scores of the requests of each tree. */
export async function scoreTrees(
  model: LanguageModel,
  planted: readonly Planted[],
  { greedy, batch }: PassOptions,
): Promise<Score[][]> {
  const caches = new LentCaches(model);
  const sums = planted.map(({ requests }) => new Sums(requests));
  const walk = new Walk(model, greedy, batch);
  const roots = planted.map(({ requests, tree, prefix }, i) => {
    const longest = greatest(requests.map(({ tokens }) => tokens.length));
    return new Branch(tree, sums[i] as Sums, prefix ? caches.ofPrefix(prefix) : caches.empty(longest));
  });
  try {
    await walk.through(roots);
  } finally {
    caches.dispose();
  }
  return sums.map(({ scores }) => scores.map((sum) => ({ ...sum, greedy: greedy ? sum.greedy : null })));
}

/** What is known of the scores of a tree's requests. */
class Sums {
  readonly scores: { logLikelihood: number; tokens: number; greedy: boolean }[];

  constructor(readonly requests: readonly ScoreRequest[]) {
    this.scores = requests.map(() => ({ logLikelihood: 0, tokens: 0, greedy: true }));
  }

  tokensOf(index: number): Int32Array {
    return (this.requests[index] as ScoreRequest).tokens;
  }

  /** Which of these requests ask for the token at `position`. */
  asking(requests: readonly number[], position: number): number[] {
    return requests.filter((index) => position >= (this.requests[index] as ScoreRequest).start);
  }

  add(requests: readonly number[], logProbability: number, isLikeliest: boolean): void {
    for (const index of requests) {
      const sum = this.scores[index];
      if (sum === undefined) continue;
      sum.logLikelihood += logProbability;
      sum.tokens += 1;
      sum.greedy &&= isLikeliest;
    }
  }
}

/** A token that follows a row of logits, and the requests that ask for it. */
interface Target {
  readonly row: number;
  readonly token: number;
  readonly sums: Sums;
  readonly requests: readonly number[];
}

/** Tokens `from` to `to - 1` of a branch, and the rows of logits asked of the last of them. */
interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly logits: number;
}

/** A stretch of tokens that the requests of a tree share, as it is consumed. */
class Branch {
  /** Tokens that all its requests have, up to the end of the stretch. */
  private readonly tokens: Int32Array;
  /** The position of the first row of logits that is needed, and where consuming ends. */
  private readonly first: number;
  private readonly end: number;
  private at: number;

  constructor(
    readonly tree: RequestTree,
    readonly sums: Sums,
    readonly cache: LentCache,
  ) {
    const { from, to, requests, children } = tree;
    this.at = from;
    this.tokens = sums.tokensOf(requests[0] ?? 0);
    // What follows a leaf's last token is not asked, nor need it be consumed.
    this.end = children.length > 0 ? to : to - 1;
    const scoredFrom = least(requests.map((index) => sums.requests[index]?.start ?? 0));
    // Logits of position p predict token p + 1.
    this.first = Math.max(from, scoredFrom - 1);
  }

  get isDone(): boolean {
    return this.at >= this.end;
  }

  /** What the next pass consumes of it. */
  next(chunk: number, logitsChunk: number): Stretch {
    const unscored = Math.max(0, this.first - this.at);
    const to = this.at + Math.min(chunk, unscored + logitsChunk, this.end - this.at);
    return { from: this.at, to, logits: Math.max(0, to - Math.max(this.at, this.first)) };
  }

  consumed(to: number): void {
    this.at = to;
  }

  tokensFrom({ from, to }: Stretch): Int32Array {
    return this.tokens.subarray(from, to);
  }

  /** The tokens that the rows of a stretch predict. @param row of the first of them in the logits of a pass */
  targets({ to, logits }: Stretch, row: number): Target[] {
    const { sums, tree } = this;
    const targets: Target[] = [];
    const target = (position: number, requests: readonly number[]): void => {
      const asking = sums.asking(requests, position);
      const token = sums.tokensOf(requests[0] ?? 0)[position] as number;
      if (asking.length > 0)
        targets.push({ row: row + position - 1 - (to - logits), token, sums, requests: asking });
    };
    for (let position = to - logits + 1; position <= to && position < tree.to; position++) {
      target(position, tree.requests);
    }
    if (to === tree.to && logits > 0) for (const { from, requests } of tree.children) target(from, requests);
    return targets;
  }

  /** The branches that follow it when it is done; its cache is theirs. */
  children(): Branch[] {
    // A child of one token that ends there has been scored: it needs no cache.
    const longer = this.tree.children.filter(
      ({ from, to, children }) => to - from > 1 || children.length > 0,
    );
    const caches = this.cache.lend(longer.length);
    return longer.map((child, i) => new Branch(child, this.sums, caches[i] as LentCache));
  }
}

interface Step {
  readonly branch: Branch;
  readonly stretch: Stretch;
}

class Walk {
  private readonly chunk: number;
  private readonly logitsChunk: number;
  /** What is to be done, the next at the end: depth first, so that few caches are held. */
  private readonly stack: Branch[] = [];

  constructor(
    private readonly model: LanguageModel,
    private readonly greedy: boolean,
    private readonly batch: number,
  ) {
    this.chunk = defaultChunkSize(model.config);
    this.logitsChunk = scoringChunk(model.config);
  }

  async through(roots: readonly Branch[]): Promise<void> {
    this.push(roots);
    for (let pass = this.takePass(); pass.length > 0; pass = this.takePass()) {
      await this.compute(pass);
      this.push(pass.map(({ branch }) => branch));
    }
  }

  /** Branches to be continued, the first on top; the children of those that are done in their place. */
  private push(branches: readonly Branch[]): void {
    const open = (branch: Branch): Branch[] => (branch.isDone ? branch.children().flatMap(open) : [branch]);
    this.stack.push(...branches.flatMap(open).reverse());
  }

  private takePass(): Step[] {
    const pass: Step[] = [];
    let [tokens, logits] = [0, 0];
    while (pass.length < this.batch) {
      const branch = this.stack.at(-1);
      if (branch === undefined) break;
      const stretch = branch.next(this.chunk, this.logitsChunk);
      tokens += stretch.to - stretch.from;
      logits += stretch.logits;
      if (pass.length > 0 && (tokens > PASS_TOKENS || logits > this.logitsChunk)) break;
      this.stack.pop();
      pass.push({ branch, stretch });
    }
    return pass;
  }

  private async compute(pass: readonly Step[]): Promise<void> {
    const logits = this.model.extendPacked(
      pass.map(({ branch, stretch }) => ({
        tokens: branch.tokensFrom(stretch),
        cache: branch.cache.take(),
        logits: stretch.logits,
      })),
    );
    let row = 0;
    const targets: Target[] = [];
    for (const { branch, stretch } of pass) {
      targets.push(...branch.targets(stretch, row));
      row += stretch.logits;
      branch.consumed(stretch.to);
    }
    if (logits === null) return;
    const scores = await scoreTokens(logits, targets, this.greedy);
    logits.dispose();
    for (const [i, { sums, requests }] of targets.entries()) {
      sums.add(requests, scores[i]?.logProbability ?? NaN, scores[i]?.greedy ?? false);
    }
  }
}
