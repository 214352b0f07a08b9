/** The gated delta rule, by its recurrence or in chunks, and its gates. */
import { type DeltaAttributes } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { float32, int32, int64, type KernelArgument, pointer } from '../launch.js';
import { DELTA_SHAPE, RETENTION_SHAPE } from '../structs.js';
import { TILES } from '../tiles.js';
import { headWidth, tileBytes } from './attention-problem.js';
import { sizeOf } from '../walk.js';
import { placeOfState } from './retention-step.js';
import { registerFusedOp } from './register.js';

const file = 'delta';
const chunkFile = 'delta_chunk';
const { COLUMNS, PARTS } = TILES.delta;

interface Operands {
  readonly q: TensorInfo;
  readonly k: TensorInfo;
  readonly v: TensorInfo;
  readonly logDecay: TensorInfo;
  readonly beta: TensorInfo;
  readonly state?: TensorInfo;
}

/** Sequences up to this length take the recurrence, and wider keys. */
const FEW_POSITIONS = 64;
const WIDEST_KEYS = 128;

function gatedDeltaRule(backend: CudaBackend, operands: Operands, attrs: DeltaAttributes): TensorInfo[] {
  const [, time = 1, , keyWidth = 1] = operands.q.shape;
  const isChunked = backend.storage !== 'float32' && time > FEW_POSITIONS && keyWidth <= WIDEST_KEYS;
  return (isChunked ? inChunks : stepByStep)(backend, operands, attrs);
}

/** On tensor cores: what of the chunks does not depend on the state, then the chunks of each head one after the other. */
function inChunks(
  backend: CudaBackend,
  { q, k, v, logDecay, beta, state }: Operands,
  { queryScale, keyScale }: DeltaAttributes,
): TensorInfo[] {
  const [batch = 1, time = 1, heads = 1, keyWidth = 1] = q.shape;
  const valueWidth = v.shape[3] ?? 1;
  const { CHUNK, THREADS: threads } = TILES.delta_chunk;
  const [chunks, head] = [Math.ceil(time / CHUNK), headWidth(keyWidth)];
  const columns = Math.min(head, 64);
  const out = backend.output(v.shape);
  const last = backend.output([batch, heads, keyWidth, valueWidth], 'float32', 'float32');
  const [queries, keys, values] = [q, k, v].map((info) => pointer(backend.pointer(info))) as [KernelArgument, KernelArgument, KernelArgument]; // prettier-ignore
  const [decays, strengths, first] = [logDecay, beta, state].map((info) =>
    pointer(info ? backend.pointer(info, 'float32') : 0),
  ) as [KernelArgument, KernelArgument, KernelArgument];
  const shape = RETENTION_SHAPE.argument({
    time, heads, keyWidth, valueWidth, chunks, keyPitch: keyWidth, valuePitch: valueWidth, group: 1, scale: 1,
  }); // prettier-ignore
  const rows = batch * heads * chunks * CHUNK;
  const readerBytes = rows * head * 2;
  backend.scratch(readerBytes + rows * Math.ceil(valueWidth / head) * head * 2, (readers) => {
    const shared = [pointer(readers), pointer(readers + readerBytes)];
    const solve = { file: chunkFile, name: 'delta_solve', head };
    const solved = [keys, values, decays, strengths, ...shared, shape, float32(keyScale)];
    const solveBytes = tileBytes(head, 2 * CHUNK) + CHUNK * (CHUNK + 1) * 4;
    backend.launch(solve, [chunks, heads, batch], threads, solved, solveBytes);
    const sweep = { file: chunkFile, name: 'delta_chunks', head };
    const swept = [
      queries,
      keys,
      decays,
      ...shared,
      first,
      pointer(backend.pointer(out)),
      pointer(backend.pointer(last, 'float32')),
      shape,
      float32(queryScale),
      float32(keyScale),
    ];
    const sweepBytes = tileBytes(head, 3 * CHUNK) + tileBytes(columns, head + 2 * CHUNK);
    backend.launch(sweep, [Math.ceil(valueWidth / columns), heads, batch], threads, swept, sweepBytes);
  });
  return [out, last];
}

function stepByStep(
  backend: CudaBackend,
  { q, k, v, logDecay, beta, state }: Operands,
  { queryScale, keyScale }: DeltaAttributes,
): TensorInfo[] {
  const [batch = 1, time = 1, heads = 1, keyWidth = 1] = q.shape;
  const valueWidth = v.shape[3] ?? 1;
  const out = backend.output(v.shape);
  const { last, settled } = placeOfState(backend, state, [batch, heads, keyWidth, valueWidth]);
  const wide = (info: TensorInfo | undefined): number => (info ? backend.pointer(info, 'float32') : 0);
  const args = [
    ...[q, k, v].map((info) => pointer(backend.pointer(info))),
    ...[logDecay, beta, state].map((info) => pointer(wide(info))),
    pointer(backend.pointer(out)),
    pointer(wide(last)),
    DELTA_SHAPE.argument({ time, heads, keyWidth, valueWidth, queryScale, keyScale }),
    int32(settled ? 1 : 0),
  ];
  const kernel = { file, name: 'delta_step', head: headWidth(keyWidth), early: true };
  backend.launch(kernel, [Math.ceil(valueWidth / COLUMNS), heads, batch], COLUMNS * PARTS, args);
  return [out, last];
}

interface Gates {
  readonly a: TensorInfo;
  readonly b: TensorInfo;
  readonly aLog: TensorInfo;
  readonly dtBias: TensorInfo;
}

/** Logits in storage, what belongs to a head in float32. */
function gateArguments(backend: CudaBackend, { a, b, aLog, dtBias }: Gates) {
  return [
    ...[a, b].map((info) => pointer(backend.pointer(info))),
    ...[aLog, dtBias].map((info) => pointer(backend.pointer(info, 'float32'))),
  ];
}

function deltaGates(backend: CudaBackend, gates: Gates): TensorInfo[] {
  const { shape } = gates.a;
  const outs = [backend.output(shape, 'float32', 'float32'), backend.output(shape, 'float32', 'float32')];
  const size = sizeOf(shape);
  const to = outs.map((info) => pointer(backend.pointer(info, 'float32')));
  const args = [...gateArguments(backend, gates), ...to, int64(size), int32(shape.at(-1) ?? 1)];
  backend.launch({ file, name: 'delta_gates', early: true }, backend.blocks(size), THREADS, args);
  return outs;
}

function deltaGatesGrad(
  backend: CudaBackend,
  gates: Gates & { readonly dLogDecay: TensorInfo; readonly dBeta: TensorInfo },
): TensorInfo[] {
  const { a, b, aLog, dtBias, dLogDecay, dBeta } = gates;
  const heads = aLog.shape[0] ?? 1;
  const outs = [a, b, aLog, dtBias].map(({ shape }) => backend.output(shape));
  const args = [
    ...gateArguments(backend, gates),
    ...[dLogDecay, dBeta].map((info) => pointer(backend.pointer(info, 'float32'))),
    ...outs.map((info) => pointer(backend.pointer(info))),
    int64(sizeOf(a.shape) / heads),
    int32(heads),
  ];
  backend.launch({ file, name: 'delta_gates_grad' }, [heads], 1024, args);
  return outs;
}

/** A copy at full precision; the tensor itself where storage has it. */
function float32Copy(backend: CudaBackend, x: TensorInfo): TensorInfo {
  if (backend.storage === 'float32') return backend.alias(x, x.shape);
  const out = backend.output(x.shape, 'float32', 'float32');
  const bytes = sizeOf(x.shape) * 4;
  backend.copy(backend.pointer(out, 'float32'), backend.pointer(x, 'float32'), bytes);
  return out;
}

export function registerDelta(): void {
  registerFusedOp('GatedDeltaRule', (inputs, attrs, backend) => gatedDeltaRule(backend, inputs, attrs));
  registerFusedOp('DeltaGates', (inputs, _attrs, backend) => deltaGates(backend, inputs));
  registerFusedOp('DeltaGatesGrad', (inputs, _attrs, backend) => deltaGatesGrad(backend, inputs));
  registerFusedOp('Float32', ({ x }, _attrs, backend) => float32Copy(backend, x));
}
