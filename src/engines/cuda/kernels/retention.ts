import type { Kernels } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { type KernelArgument, int32, pointer } from '../launch.js';
import { RETENTION_SHAPE } from '../structs.js';
import { TILES } from '../tiles.js';
import { binary } from './elementwise.js';
import { logDecay } from './fused.js';
import {
  type GradientOperands,
  type Operands,
  hopperRetention,
  hopperRetentionGrad,
  suitsHopper,
} from './retention-hopper.js';
import { isStep, retentionStep } from './retention-step.js';
import { rotary } from './rotary.js';
import { registerFusedOp } from './register.js';

const file = 'retention';
const gradFile = 'retention_grad';
const { CHUNK, ROWS, THREADS } = TILES.retention;
/** Widest head of one launch; wider ones are cut into blocks of this. */
const BLOCK = 128;

/** Columns of a head that one launch handles. */
export interface WidthBlock {
  offset: number;
  width: number;
}

export function widthBlocks(width: number): WidthBlock[] {
  return Array.from({ length: Math.ceil(width / BLOCK) }, (_, index) => ({
    offset: index * BLOCK,
    width: Math.min(BLOCK, width - index * BLOCK),
  }));
}

/** The larger width, padded to what the source is compiled for. */
export function paddedWidth(keyWidth: number, valueWidth: number): number {
  const width = Math.max(keyWidth, valueWidth);
  return [32, 64].find((padded) => padded >= width) ?? BLOCK;
}

/** One block of key columns against one of value columns. */
interface Problem {
  batch: number;
  time: number;
  heads: number;
  chunks: number;
  head: number;
  key: WidthBlock;
  value: WidthBlock;
  valuePitch: number;
  shape: KernelArgument;
}

function problemOf(q: TensorInfo, v: TensorInfo, key: WidthBlock, value: WidthBlock): Problem {
  const [batch = 1, time = 1, groups = 1, keyPitch = 1] = q.shape;
  const [, , heads = 1, valuePitch = 1] = v.shape;
  const group = heads / groups;
  const chunks = Math.ceil(time / CHUNK);
  const [keyWidth, valueWidth, scale] = [key.width, value.width, keyPitch ** -0.5];
  const fields = { time, heads, keyWidth, valueWidth, chunks, keyPitch, valuePitch, group, scale };
  const shape = RETENTION_SHAPE.argument(fields);
  return {
    batch,
    time,
    heads,
    chunks,
    head: paddedWidth(key.width, value.width),
    key,
    value,
    valuePitch,
    shape,
  };
}

const tileBytes = (head: number, rows: number): number => rows * (head + 8) * 2;
const stateBytes = ({ batch, heads, chunks, head }: Problem): number =>
  batch * heads * chunks * head * head * 2;

/** Address of a block's first column in [B,T,H,width] tensors of 16 bits, and of its corner in float32 states. */
export const columns = (address: number, block: WidthBlock): number => address + block.offset * 2;
const corner = (address: number, { key, value, valuePitch }: Problem): number =>
  address === 0 ? 0 : address + (key.offset * valuePitch + value.offset) * 4;

/**
 * The recurrence over chunks: from each chunk's aᵀb, the state before every chunk (in storage, at `states`) and the one
 * after all (at `last`).
 */
function scan(
  backend: CudaBackend,
  problem: Problem,
  [a, b, logDecay, first]: readonly [number, number, number, number],
  states: number,
  last: number,
  backward: boolean,
): void {
  const { batch, heads, chunks, head, shape } = problem;
  const count = batch * heads * chunks;
  const flag = int32(backward ? 1 : 0);
  const contributionBytes = count * head * head * 4;
  backend.scratch(contributionBytes + count * 4, (contributions) => {
    const decays = contributions + contributionBytes;
    const args = [...[a, b, logDecay, contributions, decays].map(pointer), shape, flag];
    const kernel = { file, name: 'retention_contribution', head };
    backend.launch(kernel, [chunks, heads, batch], THREADS, args, tileBytes(head, 2 * ROWS));
    const step = [...[contributions, decays, first, states, last].map(pointer), shape, flag];
    const grid = [(head * head) / 256, heads, batch] as const;
    backend.launch({ file, name: 'retention_recurrence', head }, grid, 256, step);
  });
}

/** Addresses of q, k, v (at the problem's columns), the decays and the first state. */
function addressesOf(backend: CudaBackend, { q, k, v, logDecay, state }: Operands, problem: Problem) {
  return {
    q: columns(backend.pointer(q), problem.key),
    k: columns(backend.pointer(k), problem.key),
    v: columns(backend.pointer(v), problem.value),
    decay: backend.pointer(logDecay, 'float32'),
    first: state === undefined ? 0 : corner(backend.pointer(state, 'float32'), problem),
  };
}

/** Adds up the tensors; disposes of all but the result. */
export function sum(backend: CudaBackend, terms: readonly TensorInfo[]): TensorInfo {
  return terms.reduce((total, term) => {
    const next = binary(backend, 'Add', total, term);
    backend.release(total);
    backend.release(term);
    return next;
  });
}

export function retention(backend: CudaBackend, operands: Operands): TensorInfo[] {
  const { q, v } = operands;
  if (isStep(q)) return retentionStep(backend, operands, null);
  if (suitsHopper(backend, q, v)) return hopperRetention(backend, operands);
  const [batch = 1, , , keyWidth = 1] = q.shape;
  const [, , heads = 1, valueWidth = 1] = v.shape;
  const last = backend.output([batch, heads, keyWidth, valueWidth], 'float32', 'float32');
  const outs = widthBlocks(keyWidth).map((key) => {
    const out = backend.output(v.shape);
    for (const value of widthBlocks(valueWidth)) {
      blockOutput(backend, operands, problemOf(q, v, key, value), out, last);
    }
    return out;
  });
  return [sum(backend, outs), last];
}

function blockOutput(
  backend: CudaBackend,
  operands: Operands,
  problem: Problem,
  out: TensorInfo,
  last: TensorInfo,
): void {
  const { batch, time, heads, head, shape } = problem;
  const { q, k, v, decay, first } = addressesOf(backend, operands, problem);
  const to = columns(backend.pointer(out), problem.value);
  const end = corner(backend.pointer(last, 'float32'), problem);
  backend.scratch(stateBytes(problem), (states) => {
    scan(backend, problem, [k, v, decay, first], states, end, false);
    const args = [...[q, k, v, decay, states, to].map(pointer), shape];
    const grid = [Math.ceil(time / ROWS), heads, batch] as const;
    const shared = tileBytes(head, 3 * ROWS + head);
    backend.launch({ file, name: 'retention_output', head }, grid, THREADS, args, shared);
  });
}

interface Gradients {
  dq: TensorInfo;
  dk: TensorInfo;
  dv: TensorInfo;
  dDecay: TensorInfo;
  dState: TensorInfo;
}

function retentionGrad(backend: CudaBackend, inputs: GradientOperands): TensorInfo[] {
  const { q, v, logDecay, finalState } = inputs;
  if (suitsHopper(backend, q, v)) return hopperRetentionGrad(backend, inputs);
  const [batch = 1, time = 1, , keyWidth = 1] = q.shape;
  const ofKeys = [batch, time, v.shape[2] ?? 1, keyWidth];
  const dState = backend.output(finalState.shape, 'float32', 'float32');
  const [keys, values] = [widthBlocks(keyWidth), widthBlocks(v.shape[3] ?? 1)];
  // A query's gradient adds up over blocks of value columns, a value's over blocks of key columns.
  const dqs = values.map(() => backend.output(ofKeys));
  const dks = values.map(() => backend.output(ofKeys));
  const dvs = keys.map(() => backend.output(v.shape));
  const dDecays = keys.flatMap((key, a) =>
    values.map((value, b) => {
      const dDecay = backend.output(logDecay.shape, 'float32', 'float32');
      const [dq, dk, dv] = [dqs[b], dks[b], dvs[a]] as [TensorInfo, TensorInfo, TensorInfo];
      blockGradient(backend, inputs, problemOf(q, v, key, value), { dq, dk, dv, dDecay, dState });
      return dDecay;
    }),
  );
  return [sum(backend, dqs), sum(backend, dks), sum(backend, dvs), sum(backend, dDecays), dState];
}

function blockGradient(
  backend: CudaBackend,
  inputs: GradientOperands,
  problem: Problem,
  out: Gradients,
): void {
  const { batch, time, heads, head, key, value, shape } = problem;
  const { q, k, v, decay, first } = addressesOf(backend, inputs, problem);
  const dOut = columns(backend.pointer(inputs.dOutput), value);
  const dLast = corner(backend.pointer(inputs.dFinalState, 'float32'), problem);
  const dFirst = corner(backend.pointer(out.dState, 'float32'), problem);
  const grid = [Math.ceil(time / ROWS), heads, batch] as const;
  const dotBytes = batch * time * heads * 4;
  backend.scratch(2 * dotBytes, (queryDots) => {
    const keyDots = queryDots + dotBytes;
    backend.scratch(stateBytes(problem), (states) => {
      // The last state is computed again and goes where the state's gradient will be.
      scan(backend, problem, [k, v, decay, first], states, dFirst, false);
      const operands = [dOut, q, k, v, decay, states];
      const byQuery = [...operands, columns(backend.pointer(out.dq), key), queryDots].map(pointer);
      const query = { file: gradFile, name: 'retention_grad_query', head };
      backend.launch(query, grid, THREADS, [...byQuery, shape], tileBytes(head, 3 * ROWS + head));
      scan(backend, problem, [q, dOut, decay, dLast], states, dFirst, true);
      const grads = [columns(backend.pointer(out.dk), key), columns(backend.pointer(out.dv), value), keyDots];
      const byKey = [...operands, ...grads].map(pointer);
      const ofKey = { file: gradFile, name: 'retention_grad_key', head };
      backend.launch(ofKey, grid, THREADS, [...byKey, shape], tileBytes(head, 4 * ROWS));
    });
    const last = corner(backend.pointer(inputs.finalState, 'float32'), problem);
    const end = [queryDots, keyDots, last, dLast, backend.pointer(out.dDecay, 'float32')];
    const ofDecay = { file: gradFile, name: 'retention_grad_decay', head };
    backend.launch(ofDecay, [heads, batch], 1024, [...end.map(pointer), shape, int32(1)]);
  });
}

interface RotatedOperands {
  q: TensorInfo;
  k: TensorInfo;
  v: TensorInfo;
  gate: TensorInfo;
  state?: TensorInfo;
}

/** In one launch where the recurrence suits; as the kernels it is made of elsewhere. */
function rotatedRetention(
  backend: CudaBackend,
  { q, k, v, gate, state }: RotatedOperands,
  attrs: Kernels['RotatedRetention']['attrs'],
): TensorInfo[] {
  const { normalizer, ...rotation } = attrs;
  if (isStep(q)) return retentionStep(backend, { q, k, v, gate, normalizer, state }, rotation);
  const turned = rotary(backend, [q, k], { ...rotation, positions: null, inverse: false });
  const [queries, keys] = turned as [TensorInfo, TensorInfo];
  const decay = logDecay(backend, gate, normalizer);
  const outs = retention(backend, { q: queries, k: keys, v, logDecay: decay, state });
  for (const info of [queries, keys, decay]) backend.release(info);
  return outs;
}

/** Gated retention on tensor cores; under float32 storage the composed form keeps full precision. */
export function registerRetention(): void {
  registerFusedOp('GatedRetention', (inputs, _attrs, backend) => retention(backend, inputs));
  registerFusedOp('GatedRetentionGrad', (inputs, _attrs, backend) => retentionGrad(backend, inputs));
  registerFusedOp('RotatedRetention', (inputs, attrs, backend) => rotatedRetention(backend, inputs, attrs));
}
