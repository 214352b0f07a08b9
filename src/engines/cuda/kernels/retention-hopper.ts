/** Gated retention on Hopper, heads whole: a pass over the states, and passes over rows of 128 positions. */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { type KernelArgument, int32, pointer } from '../launch.js';
import { RETENTION_SHAPE, RETENTION_WALK } from '../structs.js';
import { type RowSource, TensorMaps, denseRows } from '../tensor-map.js';
import { TILES } from '../tiles.js';

const file = 'retention_hopper';
const statesFile = 'retention_hopper_states';
const { CHUNK, STAGES } = TILES.retention_hopper;
const { STAGES: STATE_STAGES, WIDE_STAGES, PRODUCERS } = TILES.retention_hopper_states;
/** Columns of a slice, and rows of a box of states. */
const SLICE = 64;
/** Rows that a warp writes at a time. */
const WARP_ROWS = 16;
/** Widest heads. */
const MOST = 256;
/** A producer warpgroup and two of consumers. */
const ROW_THREADS = 384;
const SLICE_BYTES = CHUNK * SLICE * 2;
/** Room for barriers and sums of decays, and to align tiles to 1 KiB. */
const [BARRIER_BYTES, ALIGNMENT] = [2 * CHUNK * 4 + 128, 1024];

/** Columns that a block writes: what the source is compiled for. */
const columnsOf = (width: number): number => (width % 128 === 0 ? 128 : 64);

export interface Operands {
  q: TensorInfo;
  k: TensorInfo;
  v: TensorInfo;
  logDecay: TensorInfo;
  state?: TensorInfo;
}

/** Whether these kernels take heads of such widths on this device. */
export function suitsHopper(backend: CudaBackend, q: TensorInfo, v: TensorInfo): boolean {
  const isWhole = (width = 0): boolean => width % SLICE === 0 && width <= MOST;
  const isHopper = backend.device.driver.architecture === 'sm_90a' && backend.storage !== 'float32';
  return isHopper && isWhole(q.shape[3]) && isWhole(v.shape[3]) && (q.shape[1] ?? 0) > 0;
}

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

  /** The states in boxes of so many rows. */
  private mapOfStates(address: number, rows: number): KernelArgument {
    const { batch, heads, chunks, keyWidth, valueWidth } = this;
    const size = keyWidth * valueWidth;
    const source = {
      ...{ address, width: valueWidth, positions: keyWidth, heads: chunks, batch: batch * heads },
      ...{ positionStride: valueWidth, headStride: size, batchStride: chunks * size },
    };
    return this.map(source, rows);
  }

  /** Forwards, a = k and b = v, or backwards, a = q and b = dOutput; `first` (or 0) and `last` are of float32 states. */
  states(a: TensorInfo, b: TensorInfo, first: number, states: number, last: number, backward: boolean): void {
    const { batch, heads, keyWidth, valueWidth } = this;
    const { multiprocessors } = this.backend.device.driver;
    const squares = (batch * heads * keyWidth * valueWidth) / SLICE ** 2;
    // Two warpgroups of a block share what they read of b, unless there are multiprocessors for all of them.
    const groups = keyWidth % (2 * SLICE) === 0 && squares > multiprocessors ? 2 : 1;
    const units = squares / groups;
    const stages = groups === 1 ? STATE_STAGES : WIDE_STAGES;
    const args = [
      ...[a, b].map((info) => this.rowsOf(info)),
      this.mapOfStates(states, WARP_ROWS),
      ...[this.decay, first, last].map(pointer),
      this.shape,
      RETENTION_WALK.argument({ groups, stages, units, backward: backward ? 1 : 0 }),
    ];
    const threads = 128 * groups + 32 * PRODUCERS;
    const shared = stages * (groups + 1) * SLICE_BYTES + groups * SLICE ** 2 * 2 + ALIGNMENT;
    const blocks = Math.min(units, multiprocessors);
    this.backend.launch({ file: statesFile, name: statesFile }, [blocks], threads, args, shared);
  }

  /**
   * (a·bᵀ ∘ decays)·c + factors ∘ (a·states) to `out`.
   * @param dots with which rows the result is multiplied, and where the sums over blocks of columns go, one block after the other
   */
  rows(
    name: 'output' | 'query' | 'key' | 'value',
    operands: readonly [TensorInfo, TensorInfo, TensorInfo],
    states: number,
    out: TensorInfo,
    dots?: { rows: TensorInfo; to: number },
  ): void {
    const { batch, heads, chunks, backend } = this;
    const width = out.shape[3] ?? SLICE;
    const columns = columnsOf(width);
    const tiles = (batch * heads * chunks * width) / columns;
    const args = [
      ...operands.map((info) => this.rowsOf(info)),
      this.mapOfStates(states, SLICE),
      this.map(denseRows(backend.pointer(out), out.shape), WARP_ROWS),
      this.rowsOf(dots?.rows ?? operands[0]),
      ...[this.decay, dots?.to ?? 0].map(pointer),
      int32(tiles),
      this.shape,
    ];
    const blocks = Math.min(tiles, backend.device.driver.multiprocessors);
    const resultBytes = CHUNK * columns * 2;
    const stageBytes = 2 * SLICE_BYTES + SLICE * columns * 2;
    const shared = STAGES * stageBytes + resultBytes + BARRIER_BYTES + ALIGNMENT;
    backend.launch({ file, name: `${file}_${name}`, head: columns }, [blocks], ROW_THREADS, args, shared);
  }

  /** The gradient of the decays from the dots of queries and keys, each of all blocks of key columns. */
  decays(queryDots: number, keyDots: number, last: number, dLast: number, to: number): void {
    const args = [...[queryDots, keyDots, last, dLast, to].map(pointer), this.shape];
    const columns = columnsOf(this.keyWidth);
    const kernel = { file: 'retention_grad', name: 'retention_grad_decay', head: columns };
    const parts = int32(this.keyWidth / columns);
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
    call.rows('output', [q, k, v], states, out);
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
  const dotBytes = ((batch * time * heads * keyWidth) / columnsOf(keyWidth)) * 4;
  backend.scratch(2 * dotBytes, (queryDots) => {
    const keyDots = queryDots + dotBytes;
    backend.scratch(call.stateBytes, (states) => {
      // The last state is computed again and goes where the state's gradient will be.
      call.states(k, v, first, states, dFirst, false);
      call.rows('query', [dOutput, v, k], states, dq, { rows: q, to: queryDots });
      call.states(q, dOutput, dLast, states, dFirst, true);
      call.rows('key', [v, dOutput, q], states, dk, { rows: k, to: keyDots });
      call.rows('value', [k, q, dOutput], states, dv);
    });
    call.decays(queryDots, keyDots, last, dLast, backend.pointer(dDecay, 'float32'));
  });
  return [dq, dk, dv, dDecay, dState];
}
