/**
 * The order of a projection's output rows under the two conventions of rotary embedding.
 *
 * Both rotate D/2 pairs of a head by the same frequencies. Interleaved (Meta's and Mistral's own checkpoints, and
 * YOCO) pairs elements 2i and 2i+1, half-split (Hugging Face, the official Transformer baseline, ours) i and i + D/2.
 * Exchanging the rows of W_Q and W_K accordingly turns a model of one convention into an equal one of the other,
 * since scores sum over all pairs. A checkpoint needs it only where its convention is not that of the model that
 * reads it: Meta ↔ Transformer, never official or Hugging Face ↔ Transformer, nor official ↔ YOCO.
 */
export interface RowOrder {
  /** Rows of one head. */
  readonly headDim: number;
  readonly to: 'half' | 'interleaved';
}

/** Which row of a matrix in the other convention becomes row `row` of it: rows change places within their head. */
export function storedRow(row: number, { headDim, to }: RowOrder): number {
  const pairs = headDim / 2;
  const inHead = row % headDim;
  const head = row - inHead;
  if (to === 'half') return head + (inHead < pairs ? 2 * inHead : 2 * (inHead - pairs) + 1);
  return head + (inHead % 2 === 0 ? inHead / 2 : pairs + (inHead - 1) / 2);
}
