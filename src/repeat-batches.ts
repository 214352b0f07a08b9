/** A repair of TensorFlow.js' batched matrix product. */
import { getKernel, registerKernel, unregisterKernel, type TensorInfo } from '@tensorflow/tfjs-core';

interface Product {
  readonly inputs: { readonly a: TensorInfo; readonly b: TensorInfo };
  readonly backend: { disposeIntermediateTensorInfo: (info: TensorInfo) => void };
  readonly attrs: object;
}

const batchOf = ({ shape }: TensorInfo): number[] => shape.slice(0, -2);

/**
 * How often each batch dimension has to be repeated before tfjs finds the right matrix; null: not at all. For batch `i` of the result it takes
 * matrix `i` modulo their number, which is right where all dimensions from the first that is not 1 on are those of the result.
 */
function repeats(own: readonly number[], other: readonly number[]): number[] | null {
  const rank = Math.max(own.length, other.length);
  const padded = (dims: readonly number[]): number[] => [
    ...Array<number>(rank - dims.length).fill(1),
    ...dims,
  ];
  const [mine, theirs] = [padded(own), padded(other)];
  const times = mine.map((size, axis) => (size === 1 ? (theirs[axis] ?? 1) : 1));
  const first = mine.findIndex((size) => size !== 1);
  return first >= 0 && times.slice(first).some((count) => count > 1) ? times : null;
}

/** Makes `tf.matMul` of a tfjs backend right where a batch dimension of 1 is broadcast between others. */
export function repairBatchMatMul(backendName: string): void {
  const { kernelFunc, ...config } = getKernel('BatchMatMul', backendName);
  const { kernelFunc: tile } = getKernel('Tile', backendName);
  const { kernelFunc: reshape } = getKernel('Reshape', backendName);
  unregisterKernel('BatchMatMul', backendName);
  registerKernel({
    ...config,
    kernelFunc: (parameters) => {
      const { inputs, backend, attrs } = parameters as unknown as Product;
      const made: TensorInfo[] = [];
      const run = (kernel: typeof tile, x: TensorInfo, attrs: object): TensorInfo => {
        const result = kernel({ inputs: { x }, backend, attrs: { ...attrs } }) as TensorInfo;
        made.push(result);
        return result;
      };
      const whole = (x: TensorInfo, other: TensorInfo): TensorInfo => {
        const times = repeats(batchOf(x), batchOf(other));
        if (times === null) return x;
        const shape = [...Array<number>(times.length + 2 - x.shape.length).fill(1), ...x.shape];
        return run(tile, run(reshape, x, { shape }), { reps: [...times, 1, 1] });
      };
      const { a, b } = inputs;
      const repeated = { a: whole(a, b), b: whole(b, a) };
      const product = kernelFunc({ inputs: repeated, backend, attrs: { ...attrs } });
      for (const info of made) backend.disposeIntermediateTensorInfo(info);
      return product;
    },
  });
}
