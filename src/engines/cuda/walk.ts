/** Index arithmetic shared by the kernels that walk tensors by strides. Axes are merged so that kernels divide less. */

import { TILES } from './tiles.js';

/** Most axes a kernel walks after merging. */
const MAX_RANK = TILES.layout.RANK;

export const sizeOf = (shape: readonly number[]): number =>
  shape.reduce((product, extent) => product * extent, 1);

/** Row-major strides in elements. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let axis = shape.length - 2; axis >= 0; axis--) {
    strides[axis] = (strides[axis + 1] ?? 1) * (shape[axis + 1] ?? 1);
  }
  return strides;
}

export interface StridedWalk {
  shape: number[];
  /** One list of strides per operand. */
  strides: number[][];
}

/** Drops axes of extent 1 and merges neighbours that every operand walks as one. */
export function mergeAxes({ shape, strides }: StridedWalk): StridedWalk {
  const merged: StridedWalk = { shape: [], strides: strides.map(() => []) };
  shape.forEach((extent, axis) => {
    if (extent === 1) return;
    const last = merged.shape.length - 1;
    const joins =
      last >= 0 &&
      strides.every((list, operand) => merged.strides[operand]?.[last] === (list[axis] ?? 0) * extent);
    if (joins) {
      merged.shape[last] = (merged.shape[last] ?? 1) * extent;
      strides.forEach((list, operand) => ((merged.strides[operand] as number[])[last] = list[axis] ?? 0));
    } else {
      merged.shape.push(extent);
      strides.forEach((list, operand) => merged.strides[operand]?.push(list[axis] ?? 0));
    }
  });
  if (merged.shape.length > MAX_RANK) {
    throw new Error(`more than ${MAX_RANK} axes remain of shape [${shape.join(', ')}]`);
  }
  return merged;
}

/** Strides with which an operand of `shape` is read at the indices of `outShape`: 0 along broadcast axes. */
export function broadcastStrides(shape: readonly number[], outShape: readonly number[]): number[] {
  const own = stridesOf(shape);
  const missing = outShape.length - shape.length;
  return outShape.map((_, axis) => {
    const at = axis - missing;
    return at < 0 || shape[at] === 1 ? 0 : (own[at] ?? 0);
  });
}

/** How two operands of an element-wise operation are walked; `rank` 0 means both are plain arrays of the output's size. */
export function broadcastWalk(
  a: readonly number[],
  b: readonly number[],
  out: readonly number[],
): StridedWalk {
  const walk = mergeAxes({ shape: [...out], strides: [broadcastStrides(a, out), broadcastStrides(b, out)] });
  const plain = walk.shape.length <= 1 && walk.strides.every((list) => (list[0] ?? 1) === 1);
  return plain ? { shape: [], strides: [[], []] } : walk;
}

export interface CopyWalk extends StridedWalk {
  /** Bytes moved per element of the walk: several tensor elements at once where alignment allows it. */
  unit: number;
  /** Offsets in units. */
  offsets: [number, number];
}

/**
 * Copy of `shape` from strides `source` at `sourceOffset` to strides `destination` at `destinationOffset`
 * (elements of `bytes` bytes). The innermost axis is moved in units of up to 16 bytes.
 */
export function copyWalk(
  shape: readonly number[],
  source: readonly number[],
  destination: readonly number[],
  bytes: number,
  sourceOffset = 0,
  destinationOffset = 0,
): CopyWalk {
  const walk = mergeAxes({ shape: [...shape], strides: [[...source], [...destination]] });
  const last = walk.shape.length - 1;
  const contiguous = last >= 0 && walk.strides.every((list) => list[last] === 1);
  let factor = 1;
  if (contiguous) {
    const others = walk.strides.flatMap((list) => list.slice(0, last));
    const multiples = [walk.shape[last] ?? 1, sourceOffset, destinationOffset, ...others];
    while (bytes * factor < 16 && multiples.every((value) => value % (factor * 2) === 0)) factor *= 2;
  }
  const scale = (list: readonly number[], axisLast: number): number[] =>
    list.map((stride, axis) => (axis === axisLast ? stride : stride / factor));
  return {
    shape: walk.shape.map((extent, axis) => (axis === last ? extent / factor : extent)),
    strides: walk.strides.map((list) => (factor === 1 ? list : scale(list, last))),
    unit: bytes * factor,
    offsets: [sourceOffset / factor, destinationOffset / factor],
  };
}
