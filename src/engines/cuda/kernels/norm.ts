import type { TensorInfo } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { float32, int32, int64, pointer } from '../launch.js';
import { TILES } from '../tiles.js';
import { sizeOf } from '../walk.js';
import { registerFusedOp } from './register.js';

const file = 'norm';
const { KEPT } = TILES.norm;
/** Rows that do not fill the device whatever their blocks. */
const FEW_ROWS = 64;
const SHARED_LIMIT = 48 * 1024;

export interface NormLaunch {
  name: 'rms_norm_small' | 'rms_norm' | 'rms_norm_any';
  blocks: number;
  threads: number;
  /** Packs in a row, or its elements for `rms_norm_any`. */
  extent: number;
  /** Threads that share a row in `rms_norm_small`. */
  lanes: number;
}

/** How rows of `width` elements, `perPack` of them in 16 bytes, are laid over threads. */
export function normLaunch(rows: number, width: number, perPack: number): NormLaunch {
  const packs = width / perPack;
  if (!Number.isInteger(packs) || packs > KEPT * 1024) {
    return { name: 'rms_norm_any', blocks: rows, threads: THREADS, extent: width, lanes: 0 };
  }
  if (packs <= 32) {
    // Four packs a lane where the row has them: several loads in flight hide the memory's latency.
    const lanes = 2 ** Math.ceil(Math.log2(Math.max(1, packs / KEPT)));
    const blocks = Math.ceil((rows * lanes) / THREADS);
    return { name: 'rms_norm_small', blocks, threads: THREADS, extent: packs, lanes };
  }
  // Few rows leave the device idle: then a thread takes as little as it can.
  const perThread = rows <= FEW_ROWS ? Math.ceil(packs / 1024) : KEPT;
  const threads = Math.min(1024, Math.ceil(packs / perThread / 32) * 32);
  return { name: 'rms_norm', blocks: rows, threads, extent: packs, lanes: 0 };
}

/** Whether a chain of products can norm these rows as the launch does, to the last bit. */
function isChained({ name, extent }: NormLaunch, rows: number): boolean {
  if (name === 'rms_norm') return rows <= FEW_ROWS && extent <= TILES.gemv_chain.THREADS;
  return name === 'rms_norm_small';
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
  const plan = normLaunch(rows, width, 16 / backend.elementBytes('float32'));
  const inputs = [backend.pointer(x), optional(backend, weight), optional(backend, gate)];
  const addresses = [...inputs, backend.pointer(out)];
  const launch = (): void => {
    const args = [
      ...addresses.map(pointer),
      int64(rows),
      int32(plan.extent),
      int32(plan.lanes),
      float32(eps),
    ];
    backend.launch({ file, name: plan.name, early: true }, [plan.blocks], plan.threads, args);
  };
  const chain = backend.device.recording?.chain;
  if (chain && isChained(plan, rows)) {
    const [x, scale, gate, y] = addresses as [number, number, number, number];
    const bytes = backend.bytesOf(out);
    chain.addNorm({ x, scale, gate, y, bytes, packs: plan.extent, lanes: plan.lanes, eps }, launch);
  } else launch();
  return out;
}

function rmsNormGrad(
  backend: CudaBackend,
  dy: TensorInfo,
  x: TensorInfo,
  weight: TensorInfo | undefined,
  eps: number,
): TensorInfo[] {
  const width = x.shape.at(-1) ?? 1;
  const rows = sizeOf(x.shape) / Math.max(1, width);
  const dx = backend.output(x.shape);
  const addresses = [
    backend.pointer(dy),
    backend.pointer(x),
    optional(backend, weight),
    backend.pointer(dx),
  ].map(pointer);
  if (weight === undefined && width <= 256) {
    const args = [...addresses, int64(rows), int32(width), float32(eps)];
    backend.launch({ file, name: 'rms_norm_grad_narrow' }, [Math.ceil(rows / (THREADS / 32))], THREADS, args);
    return [dx];
  }
  if (width * 4 > SHARED_LIMIT) throw new Error(`RmsNormGrad: rows of ${width} are too wide`);
  // A row is a chain of two reductions over its block: only many blocks hide it.
  const blocks = Math.min(rows, backend.device.driver.multiprocessors * 8);
  const launch = (partial: number): void => {
    const args = [...addresses, pointer(partial), int64(rows), int32(width), float32(eps)];
    backend.launch({ file, name: 'rms_norm_grad' }, [blocks], THREADS, args, width * 4);
  };
  if (weight === undefined) {
    launch(0);
    return [dx];
  }
  const dWeight = backend.output([width]);
  backend.scratch((blocks + 1) * width * 4, (partial) => {
    launch(partial);
    const sums = partial + blocks * width * 4;
    const args = [pointer(partial), pointer(sums), int64(blocks), int64(width), float32(1)];
    const columns = { file: 'reduce', name: 'columns_Sum_float32', storage: 'float32' } as const;
    backend.launch(columns, [Math.ceil(width / 32), 1], 1024, args);
    backend.cast('raw_float32', sums, backend.pointer(dWeight), width);
  });
  return [dx, dWeight];
}

export function registerNorms(): void {
  registerFusedOp('RmsNorm', ({ x, weight }, { eps }, backend) => rmsNorm(backend, x, weight, eps));
  registerFusedOp('GatedRmsNorm', ({ x, gate, weight }, { eps }, backend) =>
    rmsNorm(backend, x, weight, eps, gate),
  );
  registerFusedOp('RmsNormGrad', ({ dy, x, weight }, { eps }, backend) =>
    rmsNormGrad(backend, dy, x, weight, eps),
  );
}
