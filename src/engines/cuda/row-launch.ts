/** How kernels that need a whole row at once, such as norms, lay rows over threads, each of which keeps its part in registers. */
import { TILES } from './tiles.js';

const { KEPT } = TILES.norm;
/** Threads of a block that has several rows, or that goes through a row more than once. */
const THREADS = 256;
/** Rows that do not fill the device whatever their blocks. */
export const FEW_ROWS = 64;

export interface RowLaunch {
  /** What the name of a kernel ends in: lanes of a warp share a row, a block has one in registers, or a block reads one twice. */
  variant: '_small' | '' | '_any';
  blocks: number;
  threads: number;
  /** Packs in a row, or its elements for `_any`. */
  extent: number;
  /** Threads that share a row in `_small`. */
  lanes: number;
}

/** Lanes of a warp that share a row of `packs`: a power of two, of which none has more than it can keep. */
export const lanesOf = (packs: number, each: number): number =>
  2 ** Math.ceil(Math.log2(Math.max(1, packs / each)));

/** How rows of `width` elements, `perPack` of them in 16 bytes, are laid over threads. */
export function rowLaunch(rows: number, width: number, perPack: number): RowLaunch {
  const packs = width / perPack;
  if (!Number.isInteger(packs) || packs > KEPT * 1024) {
    return { variant: '_any', blocks: rows, threads: THREADS, extent: width, lanes: 0 };
  }
  if (packs <= (rows > FEW_ROWS ? 32 * KEPT : 32)) {
    // Four packs a lane where the row has them: several loads in flight hide the memory's latency. At least 64 bytes of a row
    // at a time.
    const lanes = Math.max(lanesOf(packs, KEPT), Math.min(4, lanesOf(packs, 1)));
    const blocks = Math.ceil((rows * lanes) / THREADS);
    return { variant: '_small', blocks, threads: THREADS, extent: packs, lanes };
  }
  // Few rows leave the device idle: then a thread takes as little as it can.
  const perThread = rows <= FEW_ROWS ? Math.ceil(packs / 1024) : KEPT;
  const threads = Math.min(1024, Math.ceil(packs / perThread / 32) * 32);
  return { variant: '', blocks: rows, threads, extent: packs, lanes: 0 };
}
