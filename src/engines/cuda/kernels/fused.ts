import { type Kernels, registerFusedKernel } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import { CUDA_BACKEND, type CudaBackend, THREADS } from '../backend.js';
import { float32, int32, int64, pointer } from '../launch.js';
import { sizeOf } from '../walk.js';
import { linear, linearGroup, gemvSwiglu } from './linear.js';
import { pageWrite } from './page-write.js';
import { rotary } from './rotary.js';

const file = 'fused';
/** Elements of 16 bytes at two bytes each: what one thread handles at a time. */
const WIDE = 8;

function addresses(backend: CudaBackend, ...infos: TensorInfo[]) {
  return infos.map((info) => pointer(backend.pointer(info)));
}

function embedding(backend: CudaBackend, weight: TensorInfo, ids: TensorInfo, scale: number): TensorInfo {
  const [vocabulary = 1, width = 1] = weight.shape;
  const out = backend.output([...ids.shape, width]);
  const size = sizeOf(out.shape);
  const args = [
    ...addresses(backend, weight, ids, out),
    int64(size),
    int32(vocabulary),
    int32(width),
    float32(scale),
  ];
  backend.launch({ file, name: 'embedding' }, backend.blocks(size), THREADS, args);
  return out;
}

function embeddingGrad(
  backend: CudaBackend,
  dy: TensorInfo,
  ids: TensorInfo,
  scale: number,
  vocabulary: number,
): TensorInfo {
  const width = dy.shape.at(-1) ?? 1;
  const out = backend.output([vocabulary, width]);
  const bytes = vocabulary * width * 8;
  backend.scratch(bytes, (sums) => {
    backend.fill(sums, bytes, 0);
    const size = sizeOf(dy.shape);
    const args = [
      ...addresses(backend, dy, ids),
      pointer(sums),
      int64(size),
      int32(vocabulary),
      int32(width),
    ];
    backend.launch({ file, name: 'embedding_grad' }, backend.blocks(size), THREADS, args);
    const total = vocabulary * width;
    const finish = [pointer(sums), ...addresses(backend, out), int64(total), float32(scale)];
    backend.launch({ file, name: 'embedding_grad_finish' }, backend.blocks(total), THREADS, finish);
  });
  return out;
}

function swiglu(backend: CudaBackend, inputs: TensorInfo[], outputs: number): TensorInfo[] {
  const shape = inputs[0]?.shape ?? [];
  const size = sizeOf(shape);
  const outs = Array.from({ length: outputs }, () => backend.output(shape));
  const args = [...addresses(backend, ...inputs, ...outs), int64(size)];
  backend.launch(
    { file, name: outputs === 1 ? 'swiglu' : 'swiglu_grad', early: outputs === 1 },
    backend.blocks(size, WIDE),
    THREADS,
    args,
  );
  return outs;
}

function linearSwiglu(
  backend: CudaBackend,
  x: TensorInfo,
  activated: TensorInfo,
  gate: TensorInfo,
): TensorInfo {
  const few = gemvSwiglu(backend, x, activated, gate);
  if (few !== null) return few;
  const projections = linearGroup(backend, x, [activated, gate]);
  const [out] = swiglu(backend, projections, 1);
  for (const projection of projections) backend.release(projection);
  return out as TensorInfo;
}

export function logDecay(backend: CudaBackend, x: TensorInfo, normalizer: number): TensorInfo {
  const out = backend.output(x.shape, 'float32', 'float32');
  const size = sizeOf(x.shape);
  const args = [
    pointer(backend.pointer(x)),
    pointer(backend.pointer(out, 'float32')),
    int64(size),
    float32(1 / normalizer),
  ];
  backend.launch({ file, name: 'log_decay', early: true }, backend.blocks(size), THREADS, args);
  return out;
}

/** Outputs step, logDecay. */
export function timeStep(
  backend: CudaBackend,
  { x, bias, aLog }: Kernels['TimeStep']['inputs'],
  factor: number,
): [step: TensorInfo, logDecay: TensorInfo] {
  const outs = [0, 1].map(() => backend.output(x.shape, 'float32', 'float32')) as [TensorInfo, TensorInfo];
  const size = sizeOf(x.shape);
  const args = [
    pointer(backend.pointer(x)),
    ...[bias, aLog, ...outs].map((info) => pointer(backend.pointer(info, 'float32'))),
    int64(size),
    int32(x.shape.at(-1) ?? 1),
    float32(factor),
  ];
  backend.launch({ file, name: 'time_step', early: true }, backend.blocks(size), THREADS, args);
  return outs;
}

function logDecayGrad(backend: CudaBackend, dy: TensorInfo, x: TensorInfo, normalizer: number): TensorInfo {
  const out = backend.output(x.shape);
  const size = sizeOf(x.shape);
  const args = [
    pointer(backend.pointer(dy, 'float32')),
    ...addresses(backend, x, out),
    int64(size),
    float32(1 / normalizer),
  ];
  backend.launch({ file, name: 'log_decay_grad' }, backend.blocks(size), THREADS, args);
  return out;
}

/** Registers the fused ops whose kernels are bound by memory, and the linear layers. */
export function registerFused(): void {
  const on = CUDA_BACKEND;
  registerFusedKernel(on, 'Rotary', ({ x }, attrs, backend: CudaBackend) => rotary(backend, [x], attrs));
  registerFusedKernel(on, 'RotaryPair', ({ q, k }, attrs, backend: CudaBackend) =>
    rotary(backend, [q, k], attrs),
  );
  registerFusedKernel(on, 'SwiGlu', ({ a, b }, _attrs, backend: CudaBackend) => swiglu(backend, [a, b], 1));
  registerFusedKernel(on, 'SwiGluGrad', ({ dy, a, b }, _attrs, backend: CudaBackend) =>
    swiglu(backend, [dy, a, b], 2),
  );
  registerFusedKernel(on, 'Linear', ({ x, weight, residual }, { transposed }, backend: CudaBackend) =>
    linear(backend, x, weight, residual, transposed),
  );
  registerFusedKernel(on, 'LinearGroup', (inputs, { count }, backend: CudaBackend) => {
    const weights = Array.from({ length: count }, (_, index) => inputs[`weight${index}`] as TensorInfo);
    return linearGroup(backend, inputs.x as TensorInfo, weights);
  });
  registerFusedKernel(on, 'LinearSwiGlu', ({ x, activated, gate }, _attrs, backend: CudaBackend) =>
    linearSwiglu(backend, x, activated, gate),
  );
  registerFusedKernel(on, 'Embedding', ({ weight, ids }, { scale }, backend: CudaBackend) =>
    embedding(backend, weight, ids, scale),
  );
  registerFusedKernel(on, 'EmbeddingGrad', ({ dy, ids }, { scale, vocabSize }, backend: CudaBackend) =>
    embeddingGrad(backend, dy, ids, scale, vocabSize),
  );
  registerFusedKernel(on, 'PageWrite', (inputs, attrs, backend: CudaBackend) =>
    pageWrite(backend, inputs, attrs, null),
  );
  registerFusedKernel(on, 'RotatedPageWrite', (inputs, { rotation, ...attrs }, backend: CudaBackend) =>
    pageWrite(backend, inputs, attrs, rotation),
  );
  registerFusedKernel(on, 'LogDecay', ({ x }, { normalizer }, backend: CudaBackend) =>
    logDecay(backend, x, normalizer),
  );
  registerFusedKernel(on, 'TimeStep', (inputs, { factor }, backend: CudaBackend) =>
    timeStep(backend, inputs, factor),
  );
  registerFusedKernel(on, 'LogDecayGrad', ({ dy, x }, { normalizer }, backend: CudaBackend) =>
    logDecayGrad(backend, dy, x, normalizer),
  );
}
