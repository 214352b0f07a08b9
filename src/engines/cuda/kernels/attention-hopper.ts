/** What the launches of attention on Hopper have in common: the blocks of rows, and how blocks of threads share them. */
import type { CudaBackend } from '../backend.js';

/** Rows of a consumer warpgroup; threads of any warpgroup, of which one copies. */
export const GROUP_ROWS = 64;
const GROUP_THREADS = 128;

export const threadsOf = (consumers: number): number => GROUP_THREADS * (1 + consumers);

/** Bytes of so many rows in 16 bits, twice: what is held is loaded ahead. The rest aligns it to 1 KiB. */
export const sharedBytes = (width: number, held: number, ring: number): number =>
  (2 * held + ring) * width * 2 + 1024;

export interface Schedule {
  /** 1: blocks of threads take a long and a short block of rows at a time, and stay; 0: one each. */
  paired: number;
  grid: number;
}

/** Pairs, a middle block counting as half of one, of the block of threads that has most: `next_item` of attention_hopper.cuh. */
function largestShare(pairs: number, middles: number, shares: number): number {
  const all = Math.floor(pairs / shares);
  const spare = shares - (pairs % shares);
  if (middles <= 2 * spare) return spare < shares ? all + 1 : all + Math.ceil(middles / shares) / 2;
  return all + 1 + Math.ceil((middles - 2 * spare) / shares) / 2;
}

/**
 * Pairs make equal shares where rows see more and more keys. Single blocks are shared out by the device as multiprocessors become
 * free: better if pairs would leave many of those idle.
 * @param rows all of a head
 * @param blockRows rows of a block
 * @param heads of all sequences
 * @param span positions that a block is computed with, by its first row
 */
export function schedule(
  backend: CudaBackend,
  rows: number,
  blockRows: number,
  heads: number,
  span: (first: number) => number,
): Schedule {
  const { multiprocessors } = backend.device.driver;
  const blocks = Math.ceil(rows / blockRows);
  const ends = [span(0), span((blocks - 1) * blockRows)];
  const pair = ends.reduce((sum, end) => sum + end, 0);
  const [pairs, middles] = [Math.floor(blocks / 2) * heads, (blocks % 2) * heads];
  const paired = largestShare(pairs, middles, multiprocessors) * pair;
  const single = (((blocks * heads) / multiprocessors) * pair) / 2 + Math.max(...ends) / 2;
  return paired < single
    ? { paired: 1, grid: Math.min(pairs + middles, multiprocessors) }
    : { paired: 0, grid: blocks * heads };
}
