/** Cross-entropy, with and without the logits given; `ops/cross-entropy`. */
import type { FusedKernel } from '../../../ops/kernels.js';
import { limits } from '../../../ops/limits.js';
import type { CpuBackend, Floats } from '../backend.js';
import { graph } from '../graph.js';

/** loss and logSumExp of the rows from `row` on, from their logits and log-probabilities. */
function pickTargets(
  logits: Floats,
  logProbabilities: Floats,
  targets: Int32Array,
  row: number,
  [loss, logSumExp]: readonly [Floats, Floats],
): void {
  const rows = Math.min(targets.length - row, loss.length - row);
  const width = logits.length / rows;
  for (let i = 0; i < rows; i++) {
    const at = i * width + (targets[row + i] as number);
    const negative = -(logProbabilities[at] as number);
    loss[row + i] = negative;
    logSumExp[row + i] = (logits[at] as number) + negative;
  }
}

export const crossEntropy: FusedKernel<'CrossEntropy', CpuBackend> = ({ logits, targets }, _, backend) => {
  const [rows] = logits.shape as [number, number];
  const [loss, logSumExp] = [backend.output([rows]), backend.output([rows])];
  const define = () =>
    graph((g) => {
      g.output('y', 2, g.op('LogSoftmax', [g.input('logits', 2)], { axis: -1 }));
    });
  backend.withScratch([logits.size], ([scratch]) => {
    const y = backend.runtime.wrap(scratch, logits.shape);
    backend.run('LogSoftmax', define, { logits: backend.onnx(logits) }, { y });
    const outputs = [backend.floats(loss), backend.floats(logSumExp)] as const;
    pickTargets(backend.floats(logits), scratch, backend.integers(targets), 0, outputs);
  });
  return [loss, logSumExp];
};

/** Subtracts dy where the target is: dLogits = dy (softmax - one-hot). */
function subtractTargets(dLogits: Floats, dy: Floats, targets: Int32Array, row: number): void {
  const rows = Math.min(targets.length - row, dy.length - row);
  const width = dLogits.length / rows;
  for (let i = 0; i < rows; i++) {
    const at = i * width + (targets[row + i] as number);
    dLogits[at] = (dLogits[at] as number) - (dy[row + i] as number);
  }
}

export const crossEntropyGrad: FusedKernel<'CrossEntropyGrad', CpuBackend> = (
  { dy, logits, targets },
  _,
  backend,
) => {
  const dLogits = backend.output(logits.shape);
  const define = () =>
    graph((g) => {
      const softmax = g.op('Softmax', [g.input('logits', 2)], { axis: -1 });
      g.output('dLogits', 2, g.op('Mul', [softmax, g.input('dy', 2)]));
    });
  const feeds = { logits: backend.onnx(logits), dy: backend.onnx(dy, [dy.size, 1]) };
  backend.run('CrossEntropyGrad', define, feeds, { dLogits: backend.onnx(dLogits) });
  subtractTargets(backend.floats(dLogits), backend.floats(dy), backend.integers(targets), 0);
  return [dLogits];
};

/** Calls `body` with the first row and the number of rows of each block. */
export function inBlocks(rows: number, vocabSize: number, body: (row: number, count: number) => void): void {
  const block = Math.max(1, Math.floor(limits.logitElements / vocabSize));
  for (let row = 0; row < rows; row += block) body(row, Math.min(block, rows - row));
}

export const linearCrossEntropy: FusedKernel<'LinearCrossEntropy', CpuBackend> = (
  { x, weight, targets },
  _,
  backend,
) => {
  const [rows, width] = x.shape as [number, number];
  const [vocabSize] = weight.shape as [number, number];
  const [loss, logSumExp] = [backend.output([rows]), backend.output([rows])];
  const outputs = [backend.floats(loss), backend.floats(logSumExp)] as const;
  const define = () =>
    graph((g) => {
      const logits = g.op('Gemm', [g.input('x', 2), g.input('weight', 2)], { transB: 1 });
      g.output('logits', 2, logits);
      g.output('logProbabilities', 2, g.op('LogSoftmax', [logits], { axis: -1 }));
    });
  const { runtime } = backend;
  inBlocks(rows, vocabSize, (row, count) => {
    backend.withScratch([count * vocabSize, count * vocabSize], ([logits, logProbabilities]) => {
      const dims = [count, vocabSize];
      const part = backend.floats(x).subarray(row * width, (row + count) * width);
      const feeds = { x: runtime.wrap(part, [count, width]), weight: backend.onnx(weight) };
      const fetches = {
        logits: runtime.wrap(logits, dims),
        logProbabilities: runtime.wrap(logProbabilities, dims),
      };
      backend.run('LinearCrossEntropy', define, feeds, fetches);
      const head = outputs.map((output) => output.subarray(0, row + count)) as [Floats, Floats];
      pickTargets(logits, logProbabilities, backend.integers(targets), row, head);
    });
  });
  return [loss, logSumExp];
};

/** Row block by row block: dLogits from recomputed logits, then dx = dLogits weight and dWeight += dLogitsᵀ x. */
export const linearCrossEntropyGrad: FusedKernel<'LinearCrossEntropyGrad', CpuBackend> = (
  { dy, x, weight, targets },
  _,
  backend,
) => {
  const { runtime } = backend;
  const [rows, width] = x.shape as [number, number];
  const [vocabSize] = weight.shape as [number, number];
  const dx = backend.output(x.shape);
  let dWeight = backend.output(weight.shape);
  backend.floats(dWeight).fill(0);
  const [xs, dys, dxs] = [backend.floats(x), backend.floats(dy), backend.floats(dx)];
  inBlocks(rows, vocabSize, (row, count) => {
    const part = (values: Floats) =>
      runtime.wrap(values.subarray(row * width, (row + count) * width), [count, width]);
    const next = backend.output(weight.shape);
    backend.withScratch([count * vocabSize], ([scratch]) => {
      const dLogits = runtime.wrap(scratch, [count, vocabSize]);
      const dyPart = runtime.wrap(dys.subarray(row, row + count), [count, 1]);
      const feeds = { x: part(xs), weight: backend.onnx(weight), dy: dyPart };
      backend.run('LinearCrossEntropyGrad/logits', logitsGradient, feeds, { dLogits });
      subtractTargets(scratch, dys.subarray(0, row + count), backend.integers(targets), row);
      const inputs = { dLogits, x: part(xs), weight: backend.onnx(weight), before: backend.onnx(dWeight) };
      const outputs = { dx: part(dxs), dWeight: backend.onnx(next) };
      backend.run('LinearCrossEntropyGrad/inputs', inputGradients, inputs, outputs);
    });
    backend.disposeIntermediateTensorInfo(dWeight);
    dWeight = next;
  });
  return [dx, dWeight];
};

const logitsGradient = () =>
  graph((g) => {
    const logits = g.op('Gemm', [g.input('x', 2), g.input('weight', 2)], { transB: 1 });
    const softmax = g.op('Softmax', [logits], { axis: -1 });
    g.output('dLogits', 2, g.op('Mul', [softmax, g.input('dy', 2)]));
  });

const inputGradients = () =>
  graph((g) => {
    const [dLogits, x, weight] = [g.input('dLogits', 2), g.input('x', 2), g.input('weight', 2)] as const;
    g.output('dx', 2, g.op('Gemm', [dLogits, weight]));
    g.output('dWeight', 2, g.op('Gemm', [dLogits, x, g.input('before', 2)], { transA: 1 }));
  });
