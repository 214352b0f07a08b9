/** The three kernels of attention forward. */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { type KernelArgument, float32, int32, pointer } from '../launch.js';
import { CACHE, HOPPER_PROBLEM } from '../structs.js';
import { TILES } from '../tiles.js';
import { type RowSource, TENSOR_MAP_BYTES, TensorMaps, denseRows } from '../tensor-map.js';
import { sizeOf } from '../walk.js';
import {
  type Cache, ONE_PAGE, type Problem, attentionRoute, headWidth, mostSplits, pageTable, rows, source,
  splitBytes, splitsOf, tileBytes, withPositions,
} from './attention-problem.js'; // prettier-ignore
import { GROUP_ROWS, schedule, sharedBytes, threadsOf } from './attention-hopper.js';
import { rotary, rotationArguments } from './rotary.js';

const LOG2_E = Math.LOG2E;
const { attention: GENERAL, attention_decode: SPLIT, attention_hopper: HOPPER } = TILES;

function general(
  backend: CudaBackend,
  problem: Problem,
  q: TensorInfo,
  cache: Cache,
  out: number,
  logSumExp: number,
): void {
  const head = headWidth(problem.width);
  const pages = pageTable(backend, [...cache.keys, ...cache.values]);
  withPositions(backend, problem, (shape) => {
    const { batchStride, positionStride, headStride, pageSize } = cache;
    const strides = [batchStride, positionStride, headStride, pageSize] as const;
    const args = [
      rows(backend, q),
      source(0, pages, ...strides),
      source(0, pages + cache.keys.length * 8, ...strides),
      pointer(out),
      pointer(logSumExp),
      shape,
    ];
    const grid = [Math.ceil(problem.queries / GENERAL.ROWS), problem.heads, problem.batch] as const;
    const kernel = { file: 'attention', name: 'attention_forward', head };
    backend.launch(kernel, grid, GENERAL.THREADS, args, tileBytes(head, GENERAL.ROWS + 2 * GENERAL.KEYS));
  });
}

function split(
  backend: CudaBackend,
  problem: Problem,
  q: TensorInfo,
  cache: Cache,
  out: number,
  logSumExp: number,
): void {
  const { batch, queries, keys, heads, kvHeads, width, window, scale, rotation } = problem;
  const { driver, recording } = backend.device;
  const most = mostSplits(problem, driver, splitBytes(problem.width));
  // A recorded launch will have more keys later.
  const isGrowing = recording !== null && cache.pageSize !== ONE_PAGE;
  const splits = isGrowing ? most : splitsOf(keys, most);
  const pages = pageTable(backend, [...cache.keys, ...cache.values]);
  const partialBytes = batch * splits * queries * heads * (width + 2) * 4;
  backend.scratch(partialBytes, (partial) => {
    const view = {
      keys: pages,
      values: pages + cache.keys.length * 8,
      batch: cache.batchStride,
      position: cache.positionStride,
      head: cache.headStride,
      pageSize: cache.pageSize,
    };
    const args = [
      pointer(backend.pointer(q)),
      CACHE.argument(view),
      pointer(partial),
      int32(queries),
      ...(isGrowing ? backend.moving(keys, 'keys') : [pointer(0), int32(keys)]),
      ...[heads, kvHeads, window].map(int32),
      float32(scale),
      int32(most),
      ...rotationArguments(backend, rotation),
    ];
    const kernel = { file: 'attention_decode', name: 'attention_split', head: width, early: true };
    backend.launch(kernel, [splits, kvHeads, batch], 32 * SPLIT.WARPS, args, splitBytes(width));
    joinSplits(backend, problem, splits, { partial, out, logSumExp });
  });
}

/** Joins what splits of the keys have left in `partial`. */
export function joinSplits(
  backend: CudaBackend,
  {
    batch,
    queries,
    heads,
    kvHeads,
    width,
  }: Pick<Problem, 'batch' | 'queries' | 'heads' | 'kvHeads' | 'width'>,
  splits: number,
  { partial, out, logSumExp }: { readonly partial: number; readonly out: number; readonly logSumExp: number },
): void {
  const args = [
    pointer(partial),
    pointer(out),
    pointer(logSumExp),
    ...[queries, heads, kvHeads, splits].map(int32),
  ];
  const kernel = { file: 'attention_decode', name: 'attention_join', head: width, early: true };
  backend.launch(kernel, [heads, queries, batch], width * SPLIT.PARTS, args);
}

function hopper(
  backend: CudaBackend,
  problem: Problem,
  q: TensorInfo,
  cache: Cache,
  out: number,
  logSumExp: number,
): void {
  const { batch, queries, keys, heads, kvHeads, width, window, scale, offset } = problem;
  const head = width === 64 ? 64 : 128;
  const [consumers, stages] = [HOPPER[`CONSUMERS_${head}`], HOPPER[`STAGES_${head}`]];
  const maps = TensorMaps.of(backend);
  const mapQ = maps.encode(denseRows(backend.pointer(q), q.shape), GROUP_ROWS);
  const mapOf = (address: number, page: number): Uint8Array => {
    // Rows beyond the last key do not exist for the copy engine: it delivers zeros.
    const positions = Math.min(cache.pageSize, keys - page * cache.pageSize);
    const { positionStride, headStride, batchStride } = cache;
    const view: RowSource = {
      address,
      width,
      positions,
      heads: kvHeads,
      batch,
      positionStride,
      headStride,
      batchStride,
    };
    return maps.encode(view);
  };
  const tables = new Uint8Array(cache.keys.length * 2 * TENSOR_MAP_BYTES);
  [...cache.keys.map(mapOf), ...cache.values.map(mapOf)].forEach((map, index) => {
    tables.set(map, index * TENSOR_MAP_BYTES);
  });
  const blockRows = GROUP_ROWS * consumers;
  const span = (first: number): number =>
    Math.min(keys, offset + first + blockRows) - (window > 0 ? Math.max(0, offset + first - window + 1) : 0);
  const { paired, grid } = schedule(backend, queries, blockRows, heads * batch, span);
  backend.uploaded(tables, (address) => {
    const args: KernelArgument[] = [
      { kind: 'bytes', value: mapQ, alignment: 64 },
      pointer(address),
      pointer(address + cache.keys.length * TENSOR_MAP_BYTES),
      pointer(out),
      pointer(logSumExp),
      HOPPER_PROBLEM.argument({
        tq: queries,
        tk: keys,
        heads,
        kvHeads,
        window,
        offset,
        pageSize: cache.pageSize,
        batch,
        paired,
        factor: scale * LOG2_E,
      }),
    ];
    const kernel = { file: 'attention_hopper', name: 'attention_forward', head: width };
    const shared = sharedBytes(width, blockRows, 2 * stages * HOPPER.KEYS);
    backend.launch(kernel, [grid], threadsOf(consumers), args, shared);
  });
}

/** Computes attention by the kernel that suits it; `logSumExp` is an address or 0. */
export function attend(
  backend: CudaBackend,
  problem: Problem,
  q: TensorInfo,
  cache: Cache,
  out: TensorInfo,
  logSumExp: number,
): void {
  if (sizeOf(out.shape) === 0) return;
  const isHopper = backend.device.driver.architecture === 'sm_90a';
  const routes = { split, hopper, general };
  const route = attentionRoute(problem, cache.pageSize, isHopper);
  if (backend.device.recording !== null && cache.pageSize !== ONE_PAGE && route !== 'split') {
    throw new Error('attention of these heads cannot follow a growing cache');
  }
  const run = routes[route];
  const { rotation } = problem;
  const turns = rotation !== null && route !== 'split';
  const [turned = q] = turns ? rotary(backend, [q], { ...rotation, positions: null, inverse: false }) : [];
  run(backend, problem, turned, cache, backend.pointer(out), logSumExp);
  if (turns) backend.release(turned);
}
