import type { Kernels } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { float32, int32, int64, pointer } from '../launch.js';
import { sizeOf } from '../walk.js';
import { embeddingGrad } from './embedding-grad.js';
import { linearGroup, linearGroupGrad } from './linear-group.js';
import { linearSwigluHopper } from './linear-swiglu-hopper.js';
import { linear, gemvSwiglu } from './linear.js';
import { pageWrite } from './page-write.js';
import { rotary } from './rotary.js';
import { numbered, registerFusedOp } from './register.js';

const file = 'fused';
/** Elements of 16 bytes at two bytes each: what one thread handles at a time. */
const WIDE = 8;

function addresses(backend: CudaBackend, ...infos: TensorInfo[]) {
  return infos.map((info) => pointer(backend.pointer(info)));
}

function embedding(backend: CudaBackend, weight: TensorInfo, ids: TensorInfo, scale: number): TensorInfo {
  const [vocabulary = 1, width = 1] = weight.shape;
  const out = backend.output([...ids.shape, width]);
  const perPack = 16 / backend.elementBytes('float32');
  const isWide = width % perPack === 0;
  const each = isWide ? perPack : 1;
  const size = sizeOf(out.shape) / each;
  const args = [
    ...addresses(backend, weight, ids, out),
    int64(size),
    int32(vocabulary),
    int32(width / each),
    float32(scale),
  ];
  const name = isWide ? 'embedding' : 'embedding_any';
  backend.launch({ file, name }, backend.blocks(size, isWide ? 4 : 1), THREADS, args);
  return out;
}

function swiglu(backend: CudaBackend, inputs: TensorInfo[], outputs: number): TensorInfo[] {
  const shape = inputs[0]?.shape ?? [];
  const size = sizeOf(shape);
  const outs = backend.outputs(shape, outputs);
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
  const whole = gemvSwiglu(backend, x, activated, gate) ?? linearSwigluHopper(backend, x, activated, gate);
  if (whole !== null) return whole;
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
  registerFusedOp('Rotary', ({ x }, attrs, backend) => rotary(backend, [x], attrs));
  registerFusedOp('RotaryPair', ({ q, k }, attrs, backend) => rotary(backend, [q, k], attrs));
  registerFusedOp('SwiGlu', ({ a, b }, _attrs, backend) => swiglu(backend, [a, b], 1));
  registerFusedOp('SwiGluGrad', ({ dy, a, b }, _attrs, backend) => swiglu(backend, [dy, a, b], 2));
  registerFusedOp('Linear', ({ x, weight, residual }, { transposed }, backend) =>
    linear(backend, x, weight, residual, transposed),
  );
  registerFusedOp('LinearGroup', (inputs, { count }, backend) => {
    return linearGroup(backend, inputs.x as TensorInfo, numbered(inputs, 'weight', count));
  });
  registerFusedOp('LinearGroupGrad', (inputs, { count }, backend) => {
    const [weights, dys] = [numbered(inputs, 'weight', count), numbered(inputs, 'dy', count)];
    return linearGroupGrad(backend, inputs.x as TensorInfo, weights, dys);
  });
  registerFusedOp('LinearSwiGlu', ({ x, activated, gate }, _attrs, backend) =>
    linearSwiglu(backend, x, activated, gate),
  );
  registerFusedOp('Embedding', ({ weight, ids }, { scale }, backend) =>
    embedding(backend, weight, ids, scale),
  );
  registerFusedOp('EmbeddingGrad', ({ dy, ids }, { scale, vocabSize }, backend) =>
    embeddingGrad(backend, { dy, ids }, { scale, vocabSize }),
  );
  registerFusedOp('PageWrite', (inputs, attrs, backend) => pageWrite(backend, inputs, attrs, null));
  registerFusedOp('RotatedPageWrite', (inputs, { rotation, ...attrs }, backend) =>
    pageWrite(backend, inputs, attrs, rotation),
  );
  registerFusedOp('LogDecay', ({ x }, { normalizer }, backend) => logDecay(backend, x, normalizer));
  registerFusedOp('TimeStep', (inputs, { factor }, backend) => timeStep(backend, inputs, factor));
  registerFusedOp('LogDecayGrad', ({ dy, x }, { normalizer }, backend) =>
    logDecayGrad(backend, dy, x, normalizer),
  );
}
