/** What a model remembers of the tokens it has consumed, so that the next ones can be computed alone. */
export interface CacheBytes {
  /** Keys and values that grow with the context, as allocated (whole pages). */
  readonly keyValue: number;
  /** Recurrent states and windows, which do not grow. */
  readonly state: number;
}

export interface ModelCache {
  readonly batch: number;
  /** Tokens consumed so far by each sequence. */
  readonly length: number;
  /** An independent continuation: shares the full pages of keys and values, copies the rest. */
  fork(): ModelCache;
  bytes(): CacheBytes;
  dispose(): void;
}
