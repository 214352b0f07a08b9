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

/** Row of the other convention that goes to `row` of a head. */
function sourceRow(row: number, { headDim, to }: RowOrder): number {
  const pairs = headDim / 2;
  if (to === 'half') return row < pairs ? 2 * row : 2 * (row - pairs) + 1;
  return row % 2 === 0 ? row / 2 : pairs + (row - 1) / 2;
}

/** Reorders the rows of a matrix, head by head; `rowBytes` is the size of a row. Returns a new array. */
export function permuteRows(bytes: Uint8Array, rowBytes: number, order: RowOrder): Uint8Array {
  const out = new Uint8Array(bytes.byteLength);
  const rows = rowBytes === 0 ? 0 : bytes.byteLength / rowBytes;
  for (let row = 0; row < rows; row++) {
    const inHead = row % order.headDim;
    const from = (row - inHead + sourceRow(inHead, order)) * rowBytes;
    out.set(bytes.subarray(from, from + rowBytes), row * rowBytes);
  }
  return out;
}
