import type { Kernels } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { float32, int32, int64, pointer } from '../launch.js';
import { FEW_ROWS, type RowLaunch, lanesOf, rowLaunch } from '../row-launch.js';
import { TILES } from '../tiles.js';
import { sizeOf } from '../walk.js';
import { registerFusedOp } from './register.js';

const SHARED_LIMIT = 48 * 1024;
const GRAD_THREADS = TILES.norm_grad.THREADS;
/** Rows that a thread has at a time, by the packs that it has of each. */
const GRAD_ROWS: ReadonlyMap<number, number> = new Map([
  [1, 4],
  [2, 2],
  [3, 1],
]);

/** Whether a chain of products can norm these rows as the launch does, to the last bit. */
function isChained({ variant, extent }: RowLaunch, rows: number): boolean {
  if (variant === '') return rows <= FEW_ROWS && extent <= TILES.gemv_chain.THREADS;
  return variant === '_small';
}

function optional(backend: CudaBackend, info: TensorInfo | undefined): number {
  return info === undefined ? 0 : backend.pointer(info);
}

function rmsNorm(
  backend: CudaBackend,
  x: TensorInfo,
  weight: TensorInfo | undefined,
  eps: number,
  gate?: TensorInfo,
): TensorInfo {
  const width = x.shape.at(-1) ?? 1;
  const rows = sizeOf(x.shape) / Math.max(1, width);
  const out = backend.output(x.shape);
  const plan = rowLaunch(rows, width, 16 / backend.elementBytes('float32'));
  const launch = (file: 'norm' | 'norm_float8', addresses: readonly number[]): void => {
    const sizes = [int64(rows), int32(plan.extent), int32(plan.lanes), float32(eps)];
    const kernel = { file, name: `rms_${file}${plan.variant}`, early: true };
    backend.launch(kernel, [plan.blocks], plan.threads, [...addresses.map(pointer), ...sizes]);
  };
  const [from, scale, gates, y] = [
    backend.pointer(x),
    optional(backend, weight),
    optional(backend, gate),
    backend.pointer(out),
  ];
  // Rows of a gated norm are heads, which no product takes.
  const float8 = gate === undefined && plan.variant !== '_any' ? backend.roomForFloat8(out) : null;
  if (float8 !== null) {
    launch('norm_float8', [from, scale, y, float8.codes, float8.factors]);
    return out;
  }
  const launchAlone = (): void => {
    launch('norm', [from, scale, gates, y]);
  };
  const chain = backend.device.recording?.chain;
  if (chain && isChained(plan, rows)) {
    const [bytes, packs] = [backend.bytesOf(out), plan.extent];
    chain.addNorm({ x: from, scale, gate: gates, y, bytes, packs, lanes: plan.lanes, eps }, launchAlone);
  } else launchAlone();
  return out;
}

export interface NormGradLaunch {
  name: string;
  /** Blocks, each of which leaves one row of shares of the weight's gradient. */
  blocks: number;
  /** Packs in a row, or its elements for `rms_norm_grad_any`. */
  extent: number;
  /** Threads that share a row. */
  lanes: number;
}

/** How the gradient of rows is laid over threads; the kernels are named by the packs that a thread has of a row. */
export function normGradLaunch(
  rows: number,
  width: number,
  { perPack, multiprocessors }: { perPack: number; multiprocessors: number },
): NormGradLaunch {
  const packs = width / perPack;
  const most = Math.max(...GRAD_ROWS.keys());
  if (!Number.isInteger(packs) || packs > most * GRAD_THREADS) {
    // A row is a chain of two reductions over its block: only many blocks hide it.
    const blocks = Math.min(rows, multiprocessors * 8);
    return { name: 'rms_norm_grad_any', blocks, extent: width, lanes: 0 };
  }
  const lanes = Math.max(lanesOf(packs, most), Math.min(32, lanesOf(packs, 1)));
  const held = Math.max(1, Math.ceil(packs / lanes));
  const atOnce = (GRAD_THREADS / lanes) * (GRAD_ROWS.get(held) ?? 1);
  const blocks = Math.min(Math.ceil(rows / atOnce), multiprocessors * 2);
  return { name: `rms_norm_grad_${held}`, blocks, extent: packs, lanes };
}

/** With `dResidual`, that is added to dx. */
function rmsNormGrad(
  backend: CudaBackend,
  { dy, x, weight, dResidual }: Kernels['RmsNormGrad']['inputs'] & { readonly dResidual?: TensorInfo },
  eps: number,
): TensorInfo[] {
  const width = x.shape.at(-1) ?? 1;
  const rows = sizeOf(x.shape) / Math.max(1, width);
  const dx = backend.output(x.shape);
  const addresses = [
    backend.pointer(dy),
    backend.pointer(x),
    optional(backend, weight),
    optional(backend, dResidual),
    backend.pointer(dx),
  ].map(pointer);
  if (width * 4 > SHARED_LIMIT) throw new Error(`RmsNormGrad: rows of ${width} are too wide`);
  const { multiprocessors } = backend.device.driver;
  const perPack = 16 / backend.elementBytes('float32');
  const { name, blocks, extent, lanes } = normGradLaunch(rows, width, { perPack, multiprocessors });
  const launch = (partial: number): void => {
    const sizes = [int64(rows), int32(extent), int32(lanes), float32(eps)];
    const args = [...addresses, pointer(partial), ...sizes];
    backend.launch({ file: 'norm_grad', name, early: true }, [blocks], GRAD_THREADS, args, width * 4);
  };
  if (weight === undefined) {
    launch(0);
    return [dx];
  }
  const dWeight = backend.output([width]);
  backend.scratch(blocks * width * 4, (partial) => {
    launch(partial);
    const args = [pointer(partial), pointer(backend.pointer(dWeight)), int32(blocks), int32(width)];
    const gain = { file: 'norm_grad', name: 'rms_norm_gain', early: true } as const;
    backend.launch(gain, [Math.ceil(width / 32)], 1024, args);
  });
  return [dx, dWeight];
}

export function registerNorms(): void {
  registerFusedOp('RmsNorm', ({ x, weight }, { eps }, backend) => rmsNorm(backend, x, weight, eps));
  registerFusedOp('GatedRmsNorm', ({ x, gate, weight }, { eps }, backend) =>
    rmsNorm(backend, x, weight, eps, gate),
  );
  registerFusedOp('RmsNormGrad', (inputs, { eps }, backend) => rmsNormGrad(backend, inputs, eps));
  registerFusedOp('PreNormGrad', (inputs, { eps }, backend) => rmsNormGrad(backend, inputs, eps));
}
