/** Rows of a matrix by index; `ops/embedding`. Plain loops: the work is copying, and adding in order. */
import { RunError } from '../../../errors.js';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';

function checkId(id: number, vocabSize: number): void {
  if (id < 0 || id >= vocabSize)
    throw new RunError(`Token id ${id} is not in the vocabulary of ${vocabSize}`);
}

export const embedding: FusedKernel<'Embedding', CpuBackend> = ({ weight, ids }, { scale }, backend) => {
  const [vocabSize, width] = weight.shape as [number, number];
  const y = backend.output([...ids.shape, width]);
  const [source, target] = [backend.floats(weight), backend.floats(y)];
  backend.integers(ids).forEach((id, row) => {
    checkId(id, vocabSize);
    const [from, to] = [id * width, row * width];
    for (let i = 0; i < width; i++) target[to + i] = (source[from + i] as number) * scale;
  });
  return [y];
};

export const embeddingGrad: FusedKernel<'EmbeddingGrad', CpuBackend> = (
  { dy, ids },
  { scale, vocabSize },
  backend,
) => {
  const width = dy.shape.at(-1) ?? 1;
  const dWeight = backend.output([vocabSize, width]);
  const [source, target] = [backend.floats(dy), backend.floats(dWeight)];
  target.fill(0);
  backend.integers(ids).forEach((id, row) => {
    checkId(id, vocabSize);
    const [from, to] = [row * width, id * width];
    for (let i = 0; i < width; i++)
      target[to + i] = (target[to + i] as number) + (source[from + i] as number) * scale;
  });
  return [dWeight];
};
