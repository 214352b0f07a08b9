/**
 * How much is held at a time: by the composed ops (those without a fused kernel), and by a prefill. An engine may set what
 * suits it when it starts; tests lower them to see several blocks on small shapes. Results do not depend on them but
 * for rounding.
 */
export const limits = {
  /** Attention: scores [B, Hq, queries, keys] of a block, in elements. */
  scoreElements: 2 ** 22,
  /** Attention: queries per block. Only keys beyond the first query of a block need a mask. */
  queryBlock: 256,
  /** Attention: keys per block, where they lie in one tensor. */
  keyBlock: 1024,
  /** Bytes of keys in a page, where a cache is going to hold more positions than a page has by default. */
  keyPageBytes: 2 ** 21,
  /** Prefill: bytes of activations in float32 of a chunk whose size is chosen by default. */
  chunkBytes: 2 ** 27,
  /** Linear cross-entropy: logits of a block of rows, in elements. */
  logitElements: 2 ** 23,
  /** Gradient of the embedding: one-hot matrix of a block of rows, in elements. */
  oneHotElements: 2 ** 24,
  /** Gated retention: positions per chunk. */
  retentionChunk: 64,
  /** Gated delta rule: positions per chunk. */
  deltaChunk: 64,
};
