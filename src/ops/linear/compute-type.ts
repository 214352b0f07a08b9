/**
 * In what products with weights are computed at inference, where it is not as tensors are stored.
 *
 * - `float8`: weights of layers and the rows that are multiplied by them are rounded to e4m3 (`float8.ts`).
 */
export const COMPUTE_TYPES = ['float8'] as const;
export type ComputeType = (typeof COMPUTE_TYPES)[number];

/** What models are made with that do not name it: what the engine was started with; null: as tensors are stored. */
export const weightDefaults: {
  compute: ComputeType | null;
  /** How the engine stores the weights that are rounded so; null: as other tensors. */
  stored: ComputeType | null;
} = { compute: null, stored: null };

/** What the units that multiply float8 want the extents of a matrix to be multiples of. */
const EXTENT_STEP = 16;

/** Whether a weight [out, in] can be kept in float8. */
export function suitsFloat8({ shape }: { readonly shape: readonly number[] }): boolean {
  return shape.length === 2 && shape.every((extent) => extent > 0 && extent % EXTENT_STEP === 0);
}

/** Bytes of a weight [out, in] in float8, with the factors of its rows. */
export function float8Bytes([rows = 0, width = 0]: readonly number[]): number {
  return rows * (width + 4);
}
