/** Caches that branches of a tree hand on to each other: made when first needed, forked only where several continue one. */
import type { LanguageModel } from '../../model/language-model.js';
import type { ModelCache } from '../../model/state/state-cache.js';
import type { SharedPrefix } from './shared-prefix.js';

/** Positions of a page: a fork copies at most so many, and a long context has at most `MOST_PAGES` of them. */
const [SMALLEST_PAGE, LARGEST_PAGE, MOST_PAGES] = [128, 4096, 16];

/** Positions per page for caches of about so many tokens that are going to be forked. */
export function forkedPageSize(tokens: number): number {
  const fitting = 2 ** Math.ceil(Math.log2(Math.max(1, tokens / MOST_PAGES)));
  return Math.min(LARGEST_PAGE, Math.max(SMALLEST_PAGE, fitting));
}

/** The cache of one branch. */
export class LentCache {
  private held: ModelCache | null = null;

  constructor(
    private readonly acquire: () => ModelCache,
    private readonly release: (cache: ModelCache) => void,
    private readonly fork: (cache: ModelCache) => ModelCache,
  ) {}

  /** The cache itself: always the same. */
  take(): ModelCache {
    return (this.held ??= this.acquire());
  }

  /** Caches for `count` continuations: forks, and the cache itself for the one that needs it last. */
  lend(count: number): LentCache[] {
    if (count === 0) {
      if (this.held !== null) this.release(this.held);
      return [];
    }
    const cache = this.take();
    let left = count;
    const acquire = (): ModelCache => (--left === 0 ? cache : this.fork(cache));
    return Array.from({ length: count }, () => new LentCache(acquire, this.release, this.fork));
  }
}

/** All caches of a walk. */
export class LentCaches {
  private readonly live = new Set<ModelCache>();

  constructor(private readonly model: LanguageModel) {}

  /** @param tokens that it is going to hold */
  empty(tokens: number): LentCache {
    return this.lent(() => this.model.createCache({ pageSize: forkedPageSize(tokens) }));
  }

  ofPrefix(prefix: SharedPrefix): LentCache {
    return this.lent(() => prefix.fork());
  }

  /** Disposes of those that are still there. */
  dispose(): void {
    for (const cache of this.live) cache.dispose();
    this.live.clear();
  }

  private lent(make: () => ModelCache): LentCache {
    const track = (cache: ModelCache): ModelCache => {
      this.live.add(cache);
      return cache;
    };
    const release = (cache: ModelCache): void => {
      this.live.delete(cache);
      cache.dispose();
    };
    return new LentCache(
      () => track(make()),
      release,
      (cache) => track(cache.fork()),
    );
  }
}
