/**
 * Ops of ranks that each hold a slice of the same sequences: rank r of N has positions r T to (r + 1) T - 1, or two halves of a slice
 * at two places. Every rank calls them in the same order, in the backward pass too, which is the order of the tape reversed.
 */
import type { Communicator } from '../../distributed/communicator.js';
import * as tf from '../../tf.js';
import { differentiable } from '../dispatch.js';

/**
 * The slices of all ranks in the order of their positions. The gradient of a slice is the sum of what all ranks make of it.
 * @param x [B, T, H, D]
 * @param stretches 1: slices one after the other; 2: rank r has as its halves parts r and 2N - 1 - r of 2N
 * @returns [B, N T, H, D]
 */
export function gatherSlices(x: tf.Tensor4D, ranks: Communicator, stretches: 1 | 2 = 1): tf.Tensor4D {
  const { shape, size } = x;
  const [batch, time, heads, width] = shape;
  const parts = stretches * ranks.size;
  const part: [number, number] = [time / stretches, heads * width];
  const order = orderOfParts(ranks.size, stretches);
  const [y] = differentiable({
    inputs: { x },
    forward: () => {
      const all = ranks.allGather(tf.reshape(x, [size]));
      const slices = tf.reshape(all, [ranks.size, batch, stretches, ...part]);
      const byRank = tf.reshape<tf.Rank.R4>(tf.transpose(slices, [1, 0, 2, 3, 4]), [batch, parts, ...part]);
      return [tf.reshape(ordered(byRank, order), [batch, ranks.size * time, heads, width])];
    },
    backward: ([dy]) => {
      const byPosition = tf.reshape<tf.Rank.R4>(dy as tf.Tensor, [batch, parts, ...part]);
      const byRank = ordered(byPosition, inverseOf(order));
      const slices = tf.reshape(byRank, [batch, ranks.size, stretches, ...part]);
      const all = tf.reshape<tf.Rank.R1>(tf.transpose(slices, [1, 0, 2, 3, 4]), [ranks.size * size]);
      return { x: tf.reshape(ranks.reduceScatter(all), shape) };
    },
  });
  return y as tf.Tensor4D;
}

/** Which part of those that lie rank by rank comes first, second and so on by position. */
function orderOfParts(size: number, stretches: 1 | 2): number[] {
  return Array.from({ length: stretches * size }, (_, i) =>
    stretches === 1 ? i : i < size ? 2 * i : 2 * (2 * size - 1 - i) + 1,
  );
}

const inverseOf = (order: readonly number[]): number[] => order.map((_, i) => order.indexOf(i));

/** x [B, P, T, D] with its parts P in another order. */
function ordered(x: tf.Tensor4D, order: readonly number[]): tf.Tensor4D {
  if (order.every((part, i) => part === i)) return x;
  const [batch, , time, width] = x.shape;
  return tf.concat(
    order.map((part) => tf.slice(x, [0, part, 0, 0], [batch, 1, time, width])),
    1,
  );
}

/** Tensors of a message, and dimensions of each, at most. */
const [MOST_TENSORS, MOST_DIMENSIONS] = [8, 6];
const HEADER = 1 + MOST_TENSORS * (1 + MOST_DIMENSIONS);

function headerOf(tensors: readonly tf.Tensor[]): Int32Array {
  if (tensors.length > MOST_TENSORS) throw new RangeError(`${tensors.length} tensors in one message`);
  const header = new Int32Array(HEADER);
  header[0] = tensors.length;
  tensors.forEach(({ shape }, i) => {
    header.set([shape.length, ...shape], 1 + i * (1 + MOST_DIMENSIONS));
  });
  return header;
}

function shapesOf(header: ArrayLike<number>): number[][] {
  return Array.from({ length: header[0] ?? 0 }, (_, i) => {
    const at = 1 + i * (1 + MOST_DIMENSIONS);
    return Array.from({ length: header[at] ?? 0 }, (_, axis) => header[at + 1 + axis] ?? 0);
  });
}

export type Shapes = readonly (readonly number[])[];

/**
 * Sends tensors, float32, and their shapes.
 * @param known whether the receiver knows the shapes: to read them it would wait for all work before
 */
export function sendTensors(
  ranks: Communicator,
  tensors: readonly tf.Tensor[],
  to: number,
  known = false,
): void {
  if (!known) {
    const header = tf.tensor1d(headerOf(tensors), 'int32');
    ranks.exchange({ x: header, to }, null);
    header.dispose();
  }
  for (const x of tensors) if (x.size > 0) ranks.exchange({ x, to }, null);
}

/** What `sendTensors` of rank `from` sends. @param known their shapes, where they are not sent along */
export function receiveTensors(ranks: Communicator, from: number, known: Shapes | null = null): tf.Tensor[] {
  return (known ?? receiveShapes(ranks, from)).map((shape) => receiveOne(ranks, shape, from));
}

function receiveShapes(ranks: Communicator, from: number): Shapes {
  const header = ranks.exchange(null, { shape: [HEADER], dtype: 'int32', from }) as tf.Tensor;
  const shapes = shapesOf(header.dataSync());
  header.dispose();
  return shapes;
}

function receiveOne(ranks: Communicator, shape: readonly number[], from: number): tf.Tensor {
  if (shape.includes(0)) return tf.zeros([...shape]);
  return ranks.exchange(null, { shape, dtype: 'float32', from }) as tf.Tensor;
}

/**
 * The tensors of rank `root` on every rank; what the others give is not read.
 * @param known whether all ranks give tensors of the same shapes
 */
export function broadcastTensors(
  ranks: Communicator,
  tensors: readonly tf.Tensor[],
  root: number,
  known = false,
): tf.Tensor[] {
  if (known) return tensors.map((x) => (x.size > 0 ? ranks.broadcast(x, root) : tf.clone(x)));
  const isRoot = ranks.rank === root;
  const header = tf.tidy(() => {
    const own = tf.tensor1d(isRoot ? headerOf(tensors) : new Int32Array(HEADER), 'int32');
    return ranks.broadcast(own, root).dataSync();
  });
  return shapesOf(header).map((shape, i) =>
    tf.tidy(() => ranks.broadcast(isRoot ? (tensors[i] as tf.Tensor) : tf.zeros(shape), root)),
  );
}

/**
 * What the rank before hands on by `handOn`; in the backward pass it is sent the gradients.
 * @param anchor any tensor that the loss depends on and what is received is used with: without one the tape would leave the step out
 */
export function takeOver(anchor: tf.Tensor, ranks: Communicator): tf.Tensor[] {
  return differentiable({
    inputs: { anchor },
    forward: () => receiveTensors(ranks, ranks.rank - 1),
    backward: (dys) => {
      for (const x of dys) if (x.size > 0) ranks.exchange({ x, to: ranks.rank - 1 }, null);
      return { anchor: tf.zerosLike(anchor) };
    },
  });
}

/**
 * Hands tensors on to the next rank; their gradients come back from it.
 * @param y any tensor that the loss depends on
 * @returns y, to be used in its place
 */
export function handOn<T extends tf.Tensor>(y: T, tensors: readonly tf.Tensor[], ranks: Communicator): T {
  const next = ranks.rank + 1;
  const shapes = tensors.map(({ shape }) => shape);
  const [same] = differentiable({
    inputs: { y, ...Object.fromEntries(tensors.map((tensor, i) => [String(i), tensor])) },
    forward: () => {
      sendTensors(ranks, tensors, next);
      return [tf.clone(y)];
    },
    backward: ([dy]) => {
      const gradients = shapes.map((shape) => receiveOne(ranks, shape, next));
      return {
        y: tf.clone(dy as tf.Tensor),
        ...Object.fromEntries(gradients.map((gradient, i) => [String(i), gradient])),
      };
    },
  });
  return same as T;
}
