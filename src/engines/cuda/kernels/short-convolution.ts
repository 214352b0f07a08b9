/** The short convolution and its gradient: a strip of positions of a few channels to a thread. */
import type { TensorInfo } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { int32, int64, float32, pointer } from '../launch.js';
import { CONVOLUTION_SHAPE } from '../structs.js';
import { TILES } from '../tiles.js';
import { registerFusedOp } from './register.js';

const file = 'short_convolution';
const { STRIP } = TILES.short_convolution;
/** Threads of a block, and rows that one of them sums up at least, in the gradient of the taps. */
const [TAP_THREADS, LEAST_ROWS] = [128, 32];

interface Operands {
  readonly x: TensorInfo;
  readonly weight: TensorInfo;
  readonly bias?: TensorInfo;
  readonly state?: TensorInfo;
}

function sizesOf({ x, weight }: Operands) {
  const [batch = 1, time = 1, width = 1] = x.shape;
  return { batch, time, width, taps: weight.shape[2] ?? 1 };
}

function shapeOf(operands: Operands, silu: boolean) {
  return CONVOLUTION_SHAPE.argument({ ...sizesOf(operands), silu: silu ? 1 : 0 });
}

/** Blocks in which every strip of every pack of channels has a thread, one strip for the state included. */
function stripBlocks(backend: CudaBackend, operands: Operands): number {
  const { batch, time, width } = sizesOf(operands);
  const perPack = 16 / backend.elementBytes('float32');
  const packs = width % perPack === 0 ? width / perPack : width;
  return Math.ceil((batch * (Math.ceil(time / STRIP) + 1) * packs) / THREADS);
}

function addresses(backend: CudaBackend, { x, weight, bias, state }: Operands) {
  return [x, weight, bias, state].map((info) => pointer(info === undefined ? 0 : backend.pointer(info)));
}

function shortConvolution(backend: CudaBackend, operands: Operands, silu: boolean): TensorInfo[] {
  const { batch, width, taps } = sizesOf(operands);
  const y = backend.output(operands.x.shape);
  const last = backend.output([batch, taps - 1, width]);
  const args = [
    ...addresses(backend, operands),
    pointer(backend.pointer(y)),
    pointer(backend.pointer(last)),
    shapeOf(operands, silu),
  ];
  const blocks = stripBlocks(backend, operands);
  backend.launch({ file, name: 'short_convolution', early: true }, [blocks], THREADS, args);
  return [y, last];
}

interface GradientOperands extends Operands {
  readonly dOutput: TensorInfo;
  readonly dState: TensorInfo;
}

function shortConvolutionGrad(backend: CudaBackend, operands: GradientOperands, silu: boolean): TensorInfo[] {
  const { weight, bias, dOutput, dState } = operands;
  const { batch, time, width, taps } = sizesOf(operands);
  const [dx, dFirst] = [backend.output(operands.x.shape), backend.output(dState.shape)];
  const [dWeight, dBias] = [backend.output(weight.shape), bias && backend.output(bias.shape)];
  const shape = shapeOf(operands, silu);
  backend.scratch(batch * time * width * 4, (dSum) => {
    const slope = [...addresses(backend, operands), pointer(backend.pointer(dOutput)), pointer(dSum), shape];
    const blocks = stripBlocks(backend, operands);
    backend.launch({ file, name: 'short_convolution_slope' }, [blocks], THREADS, slope);
    const inputs = [weight, dState, dx, dFirst].map((info) => pointer(backend.pointer(info)));
    const grid = backend.blocks(batch * (time + taps - 1) * width);
    const kernel = { file, name: 'short_convolution_grad_input' };
    backend.launch(kernel, grid, THREADS, [pointer(dSum), ...inputs, shape]);
    gradientOfTaps(backend, operands, dSum, dWeight, dBias);
  });
  return [dx, dWeight, dFirst, ...(dBias ? [dBias] : [])];
}

/** Slabs of rows summed up side by side, and then their sums. */
function gradientOfTaps(
  backend: CudaBackend,
  operands: GradientOperands,
  dSum: number,
  dWeight: TensorInfo,
  dBias: TensorInfo | undefined,
): void {
  const { batch, time, width, taps } = sizesOf(operands);
  const rows = batch * time;
  const most = backend.device.driver.multiprocessors * 4;
  const slab = Math.max(LEAST_ROWS, Math.ceil(rows / most));
  const slabs = Math.ceil(rows / slab);
  const columns = width * (taps + 1);
  backend.scratch((slabs + 1) * columns * 4, (partial) => {
    const { x, state } = operands;
    const inputs = [backend.pointer(x), state === undefined ? 0 : backend.pointer(state)];
    const args = [...[dSum, ...inputs, partial].map(pointer), shapeOf(operands, false), int32(slab)];
    const grid = [Math.ceil(width / TAP_THREADS), slabs] as const;
    backend.launch({ file, name: 'short_convolution_grad_taps' }, grid, TAP_THREADS, args);
    const sums = partial + slabs * columns * 4;
    const sum = { file: 'reduce', name: 'columns_Sum_float32', storage: 'float32' } as const;
    const total = [pointer(partial), pointer(sums), int64(slabs), int64(columns), float32(1)];
    backend.launch(sum, [Math.ceil(columns / 32), 1], 1024, total);
    backend.cast('raw_float32', sums, backend.pointer(dWeight), width * taps);
    if (dBias) backend.cast('raw_float32', sums + width * taps * 4, backend.pointer(dBias), width);
  });
}

export function registerShortConvolution(): void {
  registerFusedOp('ShortConvolution', (inputs, { silu }, backend) => shortConvolution(backend, inputs, silu));
  registerFusedOp('ShortConvolutionGrad', (inputs, { silu }, backend) =>
    shortConvolutionGrad(backend, inputs, silu),
  );
}
