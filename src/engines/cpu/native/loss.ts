/** Cross-entropy of x weightᵀ with its gradient, and the gradient of the embedding, by the kernels in C; formulas in `ops/`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { checkIds } from '../fused/embedding.js';
import { inBlocks } from '../fused/loss.js';
import type { Native } from './library.js';

type Operands = Readonly<Record<'x' | 'weight' | 'targets', TensorInfo>>;

/** Losses and logSumExp, and with the losses' weights [N] also dx and dWeight; logits exist for a block of rows at a time. */
function lossOf(
  native: Native,
  backend: CpuBackend,
  { x, weight, targets }: Operands,
  weights?: TensorInfo,
): TensorInfo[] {
  const [rows, width] = x.shape as [number, number];
  const [vocabSize] = weight.shape as [number, number];
  const results = [[rows], [rows], ...(weights ? [x.shape, weight.shape] : [])].map((shape) =>
    backend.output(shape),
  );
  const [losses, logSumExp, dx, dWeight] = results.map((tensor) => backend.floats(tensor));
  const [ids, head] = [backend.integers(targets), backend.floats(weight)];
  checkIds(ids, vocabSize);
  inBlocks(rows, vocabSize, (row, count) => {
    backend.withScratch([count * vocabSize], ([logits]) => {
      const part = <T extends Float32Array | Int32Array>(values: T, size = 1) =>
        values.subarray(row * size, (row + count) * size) as T;
      const states = part(backend.floats(x), width);
      const factors = weights ? part(backend.floats(weights)) : null;
      native.product(states, head, null, logits, count, vocabSize, width, 0, 1);
      const perRow = [part(losses as Float32Array), part(logSumExp as Float32Array)];
      native.cross_entropy(logits, part(ids), factors, ...perRow, count, vocabSize);
      if (!dx || !dWeight) return;
      native.product(logits, head, null, part(dx, width), count, width, vocabSize, 0, 0);
      native.product(logits, states, row > 0 ? dWeight : null, dWeight, vocabSize, width, count, 1, 0);
    });
  });
  return results;
}

export const linearCrossEntropy =
  (native: Native): FusedKernel<'LinearCrossEntropy', CpuBackend> =>
  (inputs, _, backend) =>
    lossOf(native, backend, inputs);

export const linearCrossEntropyGrad =
  (native: Native): FusedKernel<'LinearCrossEntropyGrad', CpuBackend> =>
  ({ dy, ...inputs }, _, backend) => {
    const [losses, logSumExp, ...gradients] = lossOf(native, backend, inputs, dy) as [TensorInfo, TensorInfo];
    for (const tensor of [losses, logSumExp]) backend.disposeIntermediateTensorInfo(tensor);
    return gradients;
  };

export const weightedCrossEntropy =
  (native: Native): FusedKernel<'WeightedCrossEntropy', CpuBackend> =>
  ({ weights, ...inputs }, _, backend) => {
    const [losses, logSumExp, ...gradients] = lossOf(native, backend, inputs, weights) as [
      TensorInfo,
      TensorInfo,
    ];
    backend.disposeIntermediateTensorInfo(logSumExp);
    return [losses, ...gradients];
  };

export const embeddingGrad =
  (native: Native): FusedKernel<'EmbeddingGrad', CpuBackend> =>
  ({ dy, ids }, { scale, vocabSize }, backend) => {
    const width = dy.shape.at(-1) ?? 1;
    const dWeight = backend.output([vocabSize, width]);
    const numbers = backend.integers(ids);
    checkIds(numbers, vocabSize);
    const [source, target] = [backend.floats(dy), backend.floats(dWeight)];
    native.embedding_grad(source, numbers, target, numbers.length, width, vocabSize, scale);
    return [dWeight];
  };
