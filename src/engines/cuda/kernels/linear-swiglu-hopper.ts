/** silu(x activatedᵀ) * (x gateᵀ) in one pass on Hopper, for many rows of x. */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import type { KernelArgument } from '../launch.js';
import { LINEAR_SWIGLU_GRID } from '../structs.js';
import { TensorMaps, denseRows } from '../tensor-map.js';
import { TILES } from '../tiles.js';
import { sizeOf } from '../walk.js';

const file = 'linear_swiglu_hopper';
const { STAGES } = TILES[file];
/** Rows and columns of a tile of the result, and inner elements of a slice. */
const TILE = 128;
const SLICE = 64;
/** Rows that a warp writes at a time. */
const WARP_ROWS = 16;
/** A producer warpgroup and two of consumers. */
const THREADS = 384;
/** Slices of x and of both weights, a tile of the result, the barriers, a constant, and room to align all to 1 KiB. */
const SHARED_BYTES = STAGES * 3 * TILE * SLICE * 2 + TILE * TILE * 2 + 2 * STAGES * 8 + 4 + 1024;
/** With fewer rows products read more than they compute. */
const LEAST_ROWS = 1024;
/** Least share of the multiprocessors' time that has tiles, of which the last ones may be for few. */
const LEAST_BUSY = 0.9;

const tilesOf = (rows: number, width: number): { rows: number; columns: number } => ({
  rows: Math.ceil(rows / TILE),
  columns: Math.ceil(width / TILE),
});

/** Whether the kernel takes the products of `rows` rows of `inner` elements to `width` columns and keeps so many multiprocessors busy. */
export function suitsSwigluHopper(
  rows: number,
  width: number,
  inner: number,
  multiprocessors: number,
): boolean {
  // The copy engine wants rows of multiples of 16 bytes.
  if (rows < LEAST_ROWS || width % 8 !== 0 || inner % 8 !== 0 || inner === 0) return false;
  const tiles = tilesOf(rows, width);
  const count = tiles.rows * tiles.columns;
  return count >= LEAST_BUSY * Math.ceil(count / multiprocessors) * multiprocessors;
}

/** Null where other ways are better. */
export function linearSwigluHopper(
  backend: CudaBackend,
  x: TensorInfo,
  activated: TensorInfo,
  gate: TensorInfo,
): TensorInfo | null {
  const { architecture, multiprocessors } = backend.device.driver;
  if (architecture !== 'sm_90a' || backend.storage === 'float32') return null;
  const [width = 1, inner = 1] = activated.shape;
  const rows = sizeOf(x.shape) / Math.max(1, inner);
  if (!suitsSwigluHopper(rows, width, inner, multiprocessors)) return null;
  const out = backend.output([...x.shape.slice(0, -1), width]);
  const map = (info: TensorInfo, shape: [number, number], boxRows: number): KernelArgument => {
    const source = denseRows(backend.pointer(info), [1, shape[0], 1, shape[1]]);
    return { kind: 'bytes', value: TensorMaps.of(backend).encode(source, boxRows), alignment: 64 };
  };
  const tiles = tilesOf(rows, width);
  const args = [
    map(x, [rows, inner], TILE),
    map(activated, [width, inner], TILE),
    map(gate, [width, inner], TILE),
    map(out, [rows, width], WARP_ROWS),
    LINEAR_SWIGLU_GRID.argument({ ...tiles, slices: Math.ceil(inner / SLICE) }),
  ];
  const blocks = Math.min(tiles.rows * tiles.columns, multiprocessors);
  backend.launch({ file, name: file }, [blocks], THREADS, args, SHARED_BYTES);
  return out;
}
