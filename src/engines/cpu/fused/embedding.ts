/** Rows of a matrix by index; `ops/embedding`. */
import { RunError } from '../../../errors.js';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { graph } from '../graph.js';

/** @throws RunError */
export function checkIds(ids: Int32Array, vocabSize: number): void {
  const wrong = ids.find((id) => id < 0 || id >= vocabSize);
  if (wrong !== undefined)
    throw new RunError(`Token id ${wrong} is not in the vocabulary of ${vocabSize} tokens`);
}

export const embedding: FusedKernel<'Embedding', CpuBackend> = ({ weight, ids }, { scale }, backend) => {
  const [vocabSize, width] = weight.shape as [number, number];
  checkIds(backend.integers(ids), vocabSize);
  const y = backend.output([...ids.shape, width]);
  const define = () =>
    graph((g) => {
      const rows = g.op('Gather', [g.input('weight', 2), g.input('ids', 1, 'int32')]);
      g.output('y', 2, scale === 1 ? rows : g.op('Mul', [rows, g.scalar(scale)]));
    });
  const feeds = { weight: backend.onnx(weight), ids: backend.onnx(ids, [ids.size]) };
  backend.run(`Embedding/${scale}`, define, feeds, { y: backend.onnx(y, [ids.size, width]) });
  return [y];
};

/** A plain loop: rows of the same id are added in order, so that the sum is the same every time. */
export const embeddingGrad: FusedKernel<'EmbeddingGrad', CpuBackend> = (
  { dy, ids },
  { scale, vocabSize },
  backend,
) => {
  const width = dy.shape.at(-1) ?? 1;
  const dWeight = backend.output([vocabSize, width]);
  const [source, target] = [backend.floats(dy), backend.floats(dWeight)];
  target.fill(0);
  checkIds(backend.integers(ids), vocabSize);
  backend.integers(ids).forEach((id, row) => {
    const [from, to] = [row * width, id * width];
    for (let i = 0; i < width; i++)
      target[to + i] = (target[to + i] as number) + (source[from + i] as number) * scale;
  });
  return [dWeight];
};
