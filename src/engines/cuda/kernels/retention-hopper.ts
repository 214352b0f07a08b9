/** Gated retention on Hopper, heads of 128 or 256 whole: a pass over the states, and passes over rows of 128 positions. */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { type KernelArgument, int32, pointer } from '../launch.js';
import { RETENTION_SHAPE } from '../structs.js';
import { type RowSource, TensorMaps, denseRows } from '../tensor-map.js';
import { TILES } from '../tiles.js';

const file = 'retention_hopper';
const statesFile = 'retention_hopper_states';
const { CHUNK, STAGES } = TILES.retention_hopper;
const { STAGES: STATE_STAGES } = TILES.retention_hopper_states;
/** Columns of a slice and rows of a box of states. */
const SLICE = 64;
/** Columns that a block writes. */
const BLOCK = 128;
/** A producer warpgroup and two of consumers; a warpgroup and a producer warp. */
const [ROW_THREADS, STATE_THREADS] = [384, 160];
const SLICE_BYTES = CHUNK * SLICE * 2;
/** Room to align tiles to 1 KiB. */
const ALIGNMENT = 1024;

export interface Operands {
  q: TensorInfo;
  k: TensorInfo;
  v: TensorInfo;
  logDecay: TensorInfo;
  state?: TensorInfo;
}

/** Whether these kernels take heads of such widths on this device. */
export function suitsHopper(backend: CudaBackend, q: TensorInfo, v: TensorInfo): boolean {
  const isWhole = (width = 0): boolean => width === BLOCK || width === 2 * BLOCK;
  const isHopper = backend.device.driver.architecture === 'sm_90a' && backend.storage !== 'float32';
  return isHopper && isWhole(q.shape[3]) && isWhole(v.shape[3]) && (q.shape[1] ?? 0) > 0;
}

type Width = 'keyWidth' | 'valueWidth';

/** What all launches of one call have in common. */
class Call {
  readonly batch: number;
  readonly heads: number;
  readonly keyWidth: number;
  readonly valueWidth: number;
  readonly chunks: number;
  private readonly shape: KernelArgument;
  private readonly decay: number;

  constructor(
    private readonly backend: CudaBackend,
    { q, v, logDecay }: Operands,
  ) {
    const [batch = 1, time = 1, groups = 1, keyWidth = 1] = q.shape;
    const [, , heads = 1, valueWidth = 1] = v.shape;
    const chunks = Math.ceil(time / CHUNK);
    [this.batch, this.heads, this.chunks] = [batch, heads, chunks];
    [this.keyWidth, this.valueWidth] = [keyWidth, valueWidth];
    this.shape = RETENTION_SHAPE.argument({
      ...{ time, heads, keyWidth, valueWidth, chunks, keyPitch: keyWidth, valuePitch: valueWidth },
      ...{ group: heads / groups, scale: keyWidth ** -0.5 },
    });
    this.decay = backend.pointer(logDecay, 'float32');
  }

  /** Of the states before, or behind, all chunks: [B · H, chunks, Dk, Dv] in storage. */
  get stateBytes(): number {
    return this.batch * this.heads * this.chunks * this.keyWidth * this.valueWidth * 2;
  }

  private map(source: RowSource, rows: number): KernelArgument {
    return { kind: 'bytes', value: TensorMaps.of(this.backend).encode(source, rows), alignment: 64 };
  }
  private rowsOf(info: TensorInfo): KernelArgument {
    return this.map(denseRows(this.backend.pointer(info), info.shape), CHUNK);
  }

  /** Forwards, a = k and b = v, or backwards, a = q and b = dOutput; `first` (or 0) and `last` are of float32 states. */
  states(a: TensorInfo, b: TensorInfo, first: number, states: number, last: number, backward: boolean): void {
    const { batch, heads, keyWidth, valueWidth } = this;
    const args = [
      ...[a, b].map((info) => this.rowsOf(info)),
      ...[this.decay, first, states, last].map(pointer),
      this.shape,
      int32(backward ? 1 : 0),
    ];
    const grid = [valueWidth / SLICE, keyWidth / SLICE, batch * heads] as const;
    const shared = STATE_STAGES * 2 * SLICE_BYTES + ALIGNMENT;
    this.backend.launch({ file: statesFile, name: statesFile }, grid, STATE_THREADS, args, shared);
  }

  /**
   * (a·bᵀ ∘ decays)·c + factors ∘ (a·states) at `to`.
   * @param dots with which rows the result is multiplied, and where the sums over blocks of columns go, one block after the other
   */
  rows(
    name: 'output' | 'query' | 'key' | 'value',
    [a, b, c]: readonly [TensorInfo, TensorInfo, TensorInfo],
    states: number,
    to: number,
    dots?: { rows: TensorInfo; to: number },
  ): void {
    const { batch, heads, chunks, keyWidth, valueWidth, backend } = this;
    const size = keyWidth * valueWidth;
    const stateRows = {
      ...{ address: states, width: valueWidth, positions: keyWidth, heads: chunks, batch: batch * heads },
      ...{ positionStride: valueWidth, headStride: size, batchStride: chunks * size },
    };
    const written: Width = name === 'query' || name === 'key' ? 'keyWidth' : 'valueWidth';
    const tiles = (batch * heads * chunks * this[written]) / BLOCK;
    const args = [
      ...[a, b, c].map((info) => this.rowsOf(info)),
      this.map(stateRows, SLICE),
      pointer(this.decay),
      ...[dots === undefined ? 0 : backend.pointer(dots.rows), to, dots?.to ?? 0].map(pointer),
      int32(tiles),
      this.shape,
    ];
    const blocks = Math.min(tiles, backend.device.driver.multiprocessors);
    const shared = STAGES * 3 * SLICE_BYTES + ALIGNMENT;
    backend.launch({ file, name: `${file}_${name}` }, [blocks], ROW_THREADS, args, shared);
  }

  /** The gradient of the decays from the dots of queries and keys, each of all blocks of key columns. */
  decays(queryDots: number, keyDots: number, last: number, dLast: number, to: number): void {
    const args = [...[queryDots, keyDots, last, dLast, to].map(pointer), this.shape];
    const kernel = { file: 'retention_grad', name: 'retention_grad_decay', head: BLOCK };
    const parts = int32(this.keyWidth / BLOCK);
    this.backend.launch(kernel, [this.heads, this.batch], 1024, [...args, parts]);
  }
}

/** Outputs and the last state. */
export function hopperRetention(backend: CudaBackend, operands: Operands): TensorInfo[] {
  const { q, k, v, state } = operands;
  const call = new Call(backend, operands);
  const { batch, heads, keyWidth, valueWidth } = call;
  const out = backend.output(v.shape);
  const last = backend.output([batch, heads, keyWidth, valueWidth], 'float32', 'float32');
  const first = state === undefined ? 0 : backend.pointer(state, 'float32');
  backend.scratch(call.stateBytes, (states) => {
    call.states(k, v, first, states, backend.pointer(last, 'float32'), false);
    call.rows('output', [q, k, v], states, backend.pointer(out));
  });
  return [out, last];
}

export interface GradientOperands extends Operands {
  dOutput: TensorInfo;
  dFinalState: TensorInfo;
  finalState: TensorInfo;
}

/** Gradients of q and k, of every head of the values, of v, of the decays and of the first state. */
export function hopperRetentionGrad(backend: CudaBackend, inputs: GradientOperands): TensorInfo[] {
  const { q, k, v, logDecay, dOutput, state } = inputs;
  const call = new Call(backend, inputs);
  const { batch, heads, keyWidth } = call;
  const [, time = 1] = q.shape;
  const [dq, dk] = [q, k].map(() => backend.output([batch, time, heads, keyWidth])) as [
    TensorInfo,
    TensorInfo,
  ];
  const dv = backend.output(v.shape);
  const dDecay = backend.output(logDecay.shape, 'float32', 'float32');
  const dState = backend.output(inputs.finalState.shape, 'float32', 'float32');
  const [first, last, dFirst, dLast] = [state, inputs.finalState, dState, inputs.dFinalState].map((info) =>
    info === undefined ? 0 : backend.pointer(info, 'float32'),
  ) as [number, number, number, number];
  const dotBytes = ((batch * time * heads * keyWidth) / BLOCK) * 4;
  backend.scratch(2 * dotBytes, (queryDots) => {
    const keyDots = queryDots + dotBytes;
    backend.scratch(call.stateBytes, (states) => {
      // The last state is computed again and goes where the state's gradient will be.
      call.states(k, v, first, states, dFirst, false);
      call.rows('query', [dOutput, v, k], states, backend.pointer(dq), { rows: q, to: queryDots });
      call.states(q, dOutput, dLast, states, dFirst, true);
      call.rows('key', [v, dOutput, q], states, backend.pointer(dk), { rows: k, to: keyDots });
      call.rows('value', [k, q, dOutput], states, backend.pointer(dv));
    });
    call.decays(queryDots, keyDots, last, dLast, backend.pointer(dDecay, 'float32'));
  });
  return [dq, dk, dv, dDecay, dState];
}
