import { registerFusedKernel } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import { CUDA_BACKEND, type CudaBackend } from '../backend.js';
import { type KernelArgument, int32, int32s, pointer } from '../launch.js';

const file = 'retention';
const THREADS = 128;
/** Positions of a chunk and of a tile in retention.cu. */
const CHUNK = 128;
const ROWS = 64;
/** Sequences up to this length take the recurrence itself. */
const FEW_POSITIONS = 16;

interface Problem {
  batch: number;
  time: number;
  heads: number;
  keyWidth: number;
  valueWidth: number;
  chunks: number;
  /** Padded width the source is compiled for. */
  head: number;
  shape: KernelArgument;
}

/** The larger width, padded. */
export function retentionWidth(keyWidth: number, valueWidth: number): number {
  const width = Math.max(keyWidth, valueWidth);
  const fitting = [32, 64, 128].find((padded) => padded >= width);
  if (fitting === undefined) throw new Error(`gated retention has heads of at most 128, not ${width}`);
  return fitting;
}

function problemOf(q: TensorInfo, v: TensorInfo): Problem {
  const [batch = 1, time = 1, heads = 1, keyWidth = 1] = q.shape;
  const valueWidth = v.shape[3] ?? 1;
  const chunks = Math.ceil(time / CHUNK);
  const shape = int32s([time, heads, keyWidth, valueWidth, chunks], 5);
  return {
    batch,
    time,
    heads,
    keyWidth,
    valueWidth,
    chunks,
    head: retentionWidth(keyWidth, valueWidth),
    shape,
  };
}

const tileBytes = (head: number, rows: number): number => rows * (head + 8) * 2;

interface Operands {
  q: TensorInfo;
  k: TensorInfo;
  v: TensorInfo;
  logDecay: TensorInfo;
  state?: TensorInfo;
}

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

const stateBytes = ({ batch, heads, chunks, head }: Problem): number =>
  batch * heads * chunks * head * head * 2;

function retention(backend: CudaBackend, { q, k, v, logDecay, state }: Operands): TensorInfo[] {
  const problem = problemOf(q, v);
  const { batch, time, heads, keyWidth, valueWidth, head, shape } = problem;
  const out = backend.output(v.shape);
  const last = backend.output([batch, heads, keyWidth, valueWidth], 'float32', 'float32');
  const [inputQ, inputK, inputV] = [q, k, v].map((info) => backend.pointer(info)) as [number, number, number];
  const decay = backend.pointer(logDecay, 'float32');
  const first = state === undefined ? 0 : backend.pointer(state, 'float32');
  const [to, end] = [backend.pointer(out), backend.pointer(last, 'float32')];
  if (time <= FEW_POSITIONS) {
    const args = [...[inputQ, inputK, inputV, decay, first, to, end].map(pointer), shape];
    backend.launch(
      { file, name: 'retention_step', head },
      [Math.ceil(valueWidth / 32), heads, batch],
      256,
      args,
    );
    return [out, last];
  }
  backend.scratch(stateBytes(problem), (states) => {
    scan(backend, problem, [inputK, inputV, decay, first], states, end, false);
    const args = [...[inputQ, inputK, inputV, decay, states, to].map(pointer), shape];
    const grid = [Math.ceil(time / ROWS), heads, batch] as const;
    backend.launch(
      { file, name: 'retention_output', head },
      grid,
      THREADS,
      args,
      tileBytes(head, 3 * ROWS + head),
    );
  });
  return [out, last];
}

interface GradientOperands extends Operands {
  dOutput: TensorInfo;
  dFinalState: TensorInfo;
  finalState: TensorInfo;
}

function retentionGrad(backend: CudaBackend, inputs: GradientOperands): TensorInfo[] {
  const { q, k, v, logDecay, state, dOutput, dFinalState, finalState } = inputs;
  const problem = problemOf(q, v);
  const { batch, time, heads, keyWidth, valueWidth, head, shape } = problem;
  const [dq, dk, dv] = [q, k, v].map((info) => backend.output(info.shape)) as [
    TensorInfo,
    TensorInfo,
    TensorInfo,
  ];
  const dDecay = backend.output(logDecay.shape, 'float32', 'float32');
  const dState = backend.output([batch, heads, keyWidth, valueWidth], 'float32', 'float32');
  const [inputQ, inputK, inputV, dOut] = [q, k, v, dOutput].map((info) => backend.pointer(info)) as [
    number,
    number,
    number,
    number,
  ];
  const decay = backend.pointer(logDecay, 'float32');
  const first = state === undefined ? 0 : backend.pointer(state, 'float32');
  const dLast = backend.pointer(dFinalState, 'float32');
  const grid = [Math.ceil(time / ROWS), heads, batch] as const;
  const dotBytes = batch * time * heads * 4;
  backend.scratch(2 * dotBytes, (queryDots) => {
    const keyDots = queryDots + dotBytes;
    backend.scratch(stateBytes(problem), (states) => {
      backend.scratch(batch * heads * keyWidth * valueWidth * 4, (again) => {
        scan(backend, problem, [inputK, inputV, decay, first], states, again, false);
      });
      const operands = [dOut, inputQ, inputK, inputV, decay, states];
      const byQuery = [...operands, backend.pointer(dq), queryDots].map(pointer);
      const query = { file, name: 'retention_grad_query', head };
      backend.launch(query, grid, THREADS, [...byQuery, shape], tileBytes(head, 3 * ROWS + head));
      scan(backend, problem, [inputQ, dOut, decay, dLast], states, backend.pointer(dState, 'float32'), true);
      const byKey = [...operands, backend.pointer(dk), backend.pointer(dv), keyDots].map(pointer);
      const key = { file, name: 'retention_grad_key', head };
      backend.launch(key, grid, THREADS, [...byKey, shape], tileBytes(head, 4 * ROWS));
    });
    const end = [
      queryDots,
      keyDots,
      backend.pointer(finalState, 'float32'),
      dLast,
      backend.pointer(dDecay, 'float32'),
    ];
    const decayKernel = { file, name: 'retention_grad_decay', head };
    backend.launch(decayKernel, [heads, batch], 1024, [...end.map(pointer), shape]);
  });
  return [dq, dk, dv, dDecay, dState];
}

/** Gated retention on tensor cores; under float32 storage the composed form keeps full precision. */
export function registerRetention(): void {
  registerFusedKernel(CUDA_BACKEND, 'GatedRetention', (inputs, _attrs, backend: CudaBackend) =>
    retention(backend, inputs),
  );
  registerFusedKernel(CUDA_BACKEND, 'GatedRetentionGrad', (inputs, _attrs, backend: CudaBackend) =>
    retentionGrad(backend, inputs),
  );
}
