/**
 * Several projections of one x, and their gradients. Those of equal width are one product of cuBLASLt, in a batch: 3 × 768 columns
 * fill the GPU better than three times 768. Those to few columns have kernels of their own.
 */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { sideBySideBytes } from '../side-by-side.js';
import { sizeOf } from '../walk.js';
import { isNarrow, linearNarrow, linearNarrowInputGrad, linearNarrowWeightGrad } from './linear-narrow.js';
import { linear, linearFewRows } from './linear.js';
import { matmul } from './matmul.js';

/** y_i = x weight_iᵀ. */
export function linearGroup(
  backend: CudaBackend,
  x: TensorInfo,
  weights: readonly TensorInfo[],
): TensorInfo[] {
  const few = linearFewRows(backend, x, weights);
  if (few !== null) return few;
  return byWidth(weights, ({ shape }) => shape[0] ?? 1, (own) => {
    if (isNarrow(backend, own[0] as TensorInfo)) return own.map((weight) => linearNarrow(backend, x, weight));
    if (own.length > 1 && backend.sideBySide(own)) return batched(backend, x, own);
    return own.map((weight) => linear(backend, x, weight, undefined, false));
  }); // prettier-ignore
}

/** Outputs dx, and each dWeight_i. */
export function linearGroupGrad(
  backend: CudaBackend,
  x: TensorInfo,
  weights: readonly TensorInfo[],
  dys: readonly TensorInfo[],
): TensorInfo[] {
  return [inputGradient(backend, weights, dys), ...weightGradients(backend, x, weights, dys)];
}

/** Products of one x with weights side by side. */
function batched(backend: CudaBackend, x: TensorInfo, weights: readonly TensorInfo[]): TensorInfo[] {
  const [n = 1, k = 1] = weights[0]?.shape ?? [];
  const m = sizeOf(x.shape) / k;
  const outs = backend.outputs([...x.shape.slice(0, -1), n], weights.length);
  const [strideB, strideD] = [n * k, m * n].map((size) => elementsApart(backend, size)) as [number, number];
  const batch = { batch: weights.length, strideA: 0, strideB, strideD };
  const [a, b, d] = [x, weights[0], outs[0]].map((info) => backend.pointer(info as TensorInfo)) as [
    number,
    number,
    number,
  ];
  matmul(backend, [m, n, k], a, b, d, { transposeB: true, batch });
  return outs;
}

const elementsApart = (backend: CudaBackend, size: number): number =>
  sideBySideBytes(size, backend) / backend.elementBytes('float32');

/** The sum of dy_i weight_i, each product added to the one before: first those to few columns, which are the cheapest to begin with. */
function inputGradient(
  backend: CudaBackend,
  weights: readonly TensorInfo[],
  dys: readonly TensorInfo[],
): TensorInfo {
  const pairs = weights.map((weight, i) => ({ weight, dy: dys[i] as TensorInfo }));
  const [narrow, wide] = [true, false].map((wanted) =>
    pairs.filter(({ weight }) => isNarrow(backend, weight) === wanted),
  ) as [typeof pairs, typeof pairs];
  let sum: TensorInfo | undefined;
  const add = (next: TensorInfo): void => {
    if (sum !== undefined) backend.release(sum);
    sum = next;
  };
  for (const { weight, dy } of narrow) add(linearNarrowInputGrad(backend, dy, weight, sum));
  for (const { weight, dy } of wide) add(linear(backend, dy, weight, sum, true));
  return sum as unknown as TensorInfo;
}

/** dy_iᵀ x. The dys lie where they were made: two at a time are a batch wherever that is. */
function weightGradients(
  backend: CudaBackend,
  x: TensorInfo,
  weights: readonly TensorInfo[],
  dys: readonly TensorInfo[],
): TensorInfo[] {
  return byWidth(dys, ({ shape }) => shape.at(-1) ?? 1, (own, [first = 0]) => {
    if (isNarrow(backend, weights[first] as TensorInfo))
      return own.map((dy) => linearNarrowWeightGrad(backend, dy, x));
    const pairs = Array.from({ length: Math.ceil(own.length / 2) }, (_, i) => own.slice(2 * i, 2 * i + 2));
    return pairs.flatMap((pair) => transposedProducts(backend, pair, x));
  }); // prettier-ignore
}

/** dyᵀ x of one or two dys of equal width. */
function transposedProducts(backend: CudaBackend, dys: readonly TensorInfo[], x: TensorInfo): TensorInfo[] {
  const [m, n] = [dys[0]?.shape.at(-1) ?? 1, x.shape.at(-1) ?? 1];
  const k = sizeOf(x.shape) / n;
  const outs = backend.outputs([m, n], dys.length);
  // Strides are positive: the one at the lower address comes first.
  const ordered = dys.map((dy, i) => ({ address: backend.pointer(dy), out: i })).sort((a, b) => a.address - b.address); // prettier-ignore
  const [low = 0, high = low] = ordered.map(({ address }) => address);
  const strideA = (high - low) / backend.elementBytes('float32');
  const batch = { batch: dys.length, strideA, strideB: 0, strideD: elementsApart(backend, m * n) };
  const to = backend.pointer(outs[0] as TensorInfo);
  matmul(backend, [m, n, k], low, backend.pointer(x), to, { transposeA: true, batch });
  return ordered.map(({ out }, i) => ({ out, info: outs[i] as TensorInfo })).sort((a, b) => a.out - b.out).map(({ info }) => info); // prettier-ignore
}

/** What `compute` makes of the tensors of each width, in the order of the tensors. */
function byWidth(
  tensors: readonly TensorInfo[],
  widthOf: (tensor: TensorInfo) => number,
  compute: (own: readonly TensorInfo[], places: readonly number[]) => TensorInfo[],
): TensorInfo[] {
  const widths = tensors.map(widthOf);
  const made: TensorInfo[] = [];
  for (const width of new Set(widths)) {
    const places = widths.flatMap((other, i) => (other === width ? [i] : []));
    const own = places.map((place) => tensors[place] as TensorInfo);
    compute(own, places).forEach((info, i) => (made[places[i] as number] = info));
  }
  return made;
}
