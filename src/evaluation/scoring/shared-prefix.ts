/** Tokens at the beginning of many prompts, consumed once and kept. */
import type { ModelCache } from '../../model/state/state-cache.js';
import type { LanguageModel } from '../../model/language-model.js';
import { consume } from './consume.js';
import { forkedPageSize } from './lent-caches.js';

export class SharedPrefix {
  private constructor(
    readonly tokens: Int32Array,
    private readonly cache: ModelCache,
  ) {}

  /** Consumes `tokens`; `dispose` gives the memory back. */
  static prefill(model: LanguageModel, tokens: Int32Array): SharedPrefix {
    const cache = model.createCache({ pageSize: forkedPageSize(tokens.length) });
    consume(model, cache, tokens);
    return new SharedPrefix(tokens, cache);
  }

  /** Do these tokens begin with the prefix and continue? */
  begins(tokens: Int32Array): boolean {
    return tokens.length > this.tokens.length && this.tokens.every((token, at) => tokens[at] === token);
  }

  /** A cache that holds the prefix, to be continued. */
  fork(): ModelCache {
    return this.cache.fork();
  }

  dispose(): void {
    this.cache.dispose();
  }
}
