/** The gradient of the gated delta rule in chunks, on tensor cores. */
import { type DeltaAttributes, type Kernels } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { float32, pointer } from '../launch.js';
import { RETENTION_SHAPE } from '../structs.js';
import { TILES } from '../tiles.js';
import { tileBytes } from './attention-problem.js';
import { columns, paddedWidth, sum, type WidthBlock, widthBlocks } from './retention.js';
import { registerFusedOp } from './register.js';

const file = 'delta_grad';
const { CHUNK, THREADS } = TILES.delta_grad;
/** Wider keys, whose tiles would not fit beside each other, take the composed gradient. */
const WIDEST_KEYS = 128;

type Inputs = Kernels['GatedDeltaRuleGrad']['inputs'];

interface Gradients {
  readonly dq: TensorInfo;
  readonly dk: TensorInfo;
  readonly dv: TensorInfo;
  readonly dDecay: TensorInfo;
  readonly dBeta: TensorInfo;
  readonly dState: TensorInfo;
}

/** Value columns do not see each other: wide heads go in blocks of them, over which all gradients but theirs add up. */
function deltaGradient(backend: CudaBackend, inputs: Inputs, attrs: DeltaAttributes): TensorInfo[] {
  const { q, v, logDecay, finalState } = inputs;
  const wide = (shape: number[]): TensorInfo => backend.output(shape, 'float32', 'float32');
  const [dv, dState] = [backend.output(v.shape), wide(finalState.shape)];
  const parts = widthBlocks(v.shape[3] ?? 1).map((block) => {
    const [dq, dk] = [backend.output(q.shape), backend.output(q.shape)];
    const [dDecay, dBeta] = [wide(logDecay.shape), wide(logDecay.shape)];
    const gradients = { dq, dk, dv, dDecay, dBeta, dState };
    blockGradient(backend, addressesOf(backend, inputs, gradients, block), inputs, attrs, block);
    return gradients;
  });
  const total = (name: keyof Gradients): TensorInfo => {
    const terms = parts.map((part) => part[name]);
    return sum(backend, terms);
  };
  return [total('dq'), total('dk'), dv, total('dDecay'), total('dBeta'), dState];
}

/** Of what the kernels read and write, at the first of the block's columns. */
function addressesOf(backend: CudaBackend, inputs: Inputs, out: Gradients, block: WidthBlock) {
  const keys = (info: TensorInfo): number => backend.pointer(info);
  const values = (info: TensorInfo): number => columns(backend.pointer(info), block);
  const gates = (info: TensorInfo): number => backend.pointer(info, 'float32');
  const states = (info: TensorInfo): number => backend.pointer(info, 'float32') + block.offset * 4;
  return {
    q: keys(inputs.q),
    k: keys(inputs.k),
    v: values(inputs.v),
    decay: gates(inputs.logDecay),
    beta: gates(inputs.beta),
    first: inputs.state === undefined ? 0 : states(inputs.state),
    dOut: values(inputs.dOutput),
    dLast: states(inputs.dFinalState),
    dq: keys(out.dq),
    dk: keys(out.dk),
    dv: values(out.dv),
    dDecay: gates(out.dDecay),
    dBeta: gates(out.dBeta),
    dFirst: states(out.dState),
  };
}

/** The four passes of delta_grad.cu. */
function blockGradient(
  backend: CudaBackend,
  at: ReturnType<typeof addressesOf>,
  { q: { shape: ofKeys }, v: { shape: ofValues } }: Inputs,
  { queryScale, keyScale }: DeltaAttributes,
  block: WidthBlock,
): void {
  const [batch = 1, time = 1, heads = 1, keyWidth = 1] = ofKeys;
  const valuePitch = ofValues[3] ?? 1;
  const [head, chunks] = [paddedWidth(keyWidth, block.width), Math.ceil(time / CHUNK)];
  const shape = RETENTION_SHAPE.argument({
    time, heads, keyWidth, valueWidth: block.width, chunks, keyPitch: keyWidth, valuePitch, group: 1, scale: 1,
  }); // prettier-ignore
  const scales = [queryScale, keyScale];
  const width = Math.min(head, 64);
  const launch = (
    name: string,
    blocks: number,
    bytes: number,
    addresses: number[],
    factors = scales,
  ): void => {
    const args = [...addresses.map(pointer), shape, ...factors.map(float32)];
    backend.launch({ file, name, head }, [blocks, heads, batch], THREADS, args, bytes);
  };
  const inParallel = (name: string, bytes: number, addresses: number[]): void => {
    launch(name, chunks, bytes, addresses);
  };
  // Tiles of rows as wide as a head and as a block of value columns, and one as high as the state is. All columns of the states
  // are written, also those beyond the values.
  const inOrder = (
    name: string,
    rows: number,
    narrow: number,
    addresses: number[],
    factors = scales,
  ): void => {
    const bytes = tileBytes(head, rows * CHUNK) + tileBytes(width, head + narrow * CHUNK);
    launch(name, head / width, bytes, addresses, factors);
  };
  const { q, k, v, decay, beta, first, dOut, dLast, dq, dk, dv, dDecay, dBeta, dFirst } = at;
  const rowBytes = batch * heads * chunks * CHUNK * head * 2;
  const stateBytes = batch * heads * (chunks + 1) * head * head * 2;
  backend.scratch(4 * rowBytes + 2 * stateBytes, (readers) => {
    const [updates, readersBack, dErrors] = [1, 2, 3].map((i) => readers + i * rowBytes) as [
      number,
      number,
      number,
    ];
    const states = readers + 4 * rowBytes;
    const dStates = states + stateBytes;
    const systemBytes = CHUNK * (CHUNK + 1) * 4;
    const solved = [q, k, v, dOut, decay, beta, readers, updates, readersBack, dErrors];
    inParallel('delta_grad_solve', tileBytes(head, 3 * CHUNK) + systemBytes, solved);
    inOrder('delta_grad_states', 2, 1, [k, decay, readers, updates, first, states], [keyScale]);
    const back = [q, k, dOut, decay, beta, readersBack, dErrors, dLast, dStates, dFirst];
    inOrder('delta_grad_back', 3, 2, back);
    const rows = [q, k, v, dOut, decay, beta, updates, dErrors, states, dStates, dq, dk, dv, dDecay, dBeta];
    inParallel('delta_grad_rows', tileBytes(head, 4 * CHUNK + head), rows);
  });
}

export function registerDeltaGradient(): void {
  registerFusedOp(
    'GatedDeltaRuleGrad',
    (inputs, attrs, backend) => deltaGradient(backend, inputs, attrs),
    ({ q }) => (q.shape[3] ?? 1) <= WIDEST_KEYS,
  );
}
