/** Kernels that read which rows are meant from a tensor of indices. */
import { type TensorInfo, util } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { float32, int32, int64, pointer } from '../launch.js';
import { sizeOf } from '../walk.js';
import { type CudaKernel, input, registerAll } from './register.js';

const file = 'layout';

const gather: CudaKernel = (inputs, attrs, backend) => {
  const [x, indices] = [input(inputs, 'x'), input(inputs, 'indices')];
  const axis = util.parseAxisParam(attrs.axis as number, x.shape)[0] ?? 0;
  const batchDims = (attrs.batchDims as number | undefined) ?? 0;
  if (batchDims !== 0) throw new Error('the cuda engine gathers without batch dimensions');
  const shape = [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)];
  const storage = backend.storageFor(x);
  const out = backend.output(shape, x.dtype, storage);
  const inner = sizeOf(x.shape.slice(axis + 1));
  const size = sizeOf(shape);
  const addresses = [x, indices, out].map((info) => pointer(backend.pointer(info, storage)));
  const args = [
    ...addresses,
    int64(size),
    int32(x.shape[axis] ?? 0),
    int64(sizeOf(indices.shape)),
    int64(inner),
  ];
  backend.launch(
    { file, name: `gather${backend.elementBytes(x.dtype, storage)}` },
    backend.blocks(size),
    THREADS,
    args,
  );
  return out;
};

/** Sums of the rows of each segment; [rows, inner] → [segments, inner]. Accumulated in float32. */
function scatterAdd(
  backend: CudaBackend,
  rows: TensorInfo,
  indices: TensorInfo,
  segments: number,
  shape: readonly number[],
): TensorInfo {
  const size = sizeOf(rows.shape);
  const inner = size / Math.max(1, sizeOf(indices.shape));
  const out = backend.output(shape);
  backend.scratch(segments * inner * 4, (sums) => {
    backend.fill(sums, segments * inner * 4, 0);
    const addresses = [backend.pointer(rows), backend.pointer(indices), sums].map(pointer);
    const args = [...addresses, int64(size), int64(inner), int32(segments)];
    backend.launch({ file, name: 'scatter_add' }, backend.blocks(size), THREADS, args);
    backend.cast('raw_float32', sums, backend.pointer(out), segments * inner);
  });
  return out;
}

const oneHot: CudaKernel = (inputs, attrs, backend) => {
  const indices = input(inputs, 'indices');
  const depth = attrs.depth as number;
  const out = backend.output([...indices.shape, depth], 'float32');
  const size = sizeOf(out.shape);
  const addresses = [indices, out].map((info) => pointer(backend.pointer(info)));
  const args = [...addresses, int64(size), int32(depth), float32(attrs.onValue as number), float32(attrs.offValue as number)]; // prettier-ignore
  backend.launch({ file, name: 'one_hot' }, backend.blocks(size), THREADS, args);
  return out;
};

export function registerIndexing(): void {
  registerAll({
    GatherV2: gather,
    OneHot: oneHot,
    UnsortedSegmentSum: (inputs, attrs, backend) => {
      const [x, ids] = [input(inputs, 'x'), input(inputs, 'segmentIds')];
      const segments = attrs.numSegments as number;
      const shape = [segments, ...x.shape.slice(ids.shape.length)];
      return scatterAdd(backend, x, ids, segments, shape);
    },
  });
}
