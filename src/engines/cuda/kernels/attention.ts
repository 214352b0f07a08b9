import {
  type AttentionAttributes,
  type CausalAttentionAttributes,
  type PagedAttentionAttributes,
  registerFusedKernel,
} from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import type { Block } from '../allocator.js';
import { CUDA_BACKEND, type CudaBackend } from '../backend.js';
import { type KernelArgument, float32, int32, int64, int64s, pointer } from '../launch.js';
import { BOX_POSITIONS, type RowSource, TENSOR_MAP_BYTES, TensorMaps } from '../tensor-map.js';
import { sizeOf } from '../walk.js';

const LOG2_E = Math.LOG2E;
const THREADS = 128;
/** Rows of a block in attention.cu, and in the Hopper kernel. */
const ROWS = 64;
const HOPPER_ROWS = 128;
/** Most (query, head of the group) rows of the split kernel, and keys it reads at a time. */
const SPLIT_ROWS = 16;
const SPLIT_KEYS = 64;
const LEAST_KEYS_PER_SPLIT = 256;
/** Positions that all lie in one array. */
const ONE_PAGE = 2 ** 30;

/** Keys and values: pages of `pageSize` positions, [B,Hkv,P,D], or one array, [B,Tk,Hkv,D]. */
export interface Cache {
  keys: number[];
  values: number[];
  pageSize: number;
  positionStride: number;
  headStride: number;
  batchStride: number;
}

export interface Problem {
  batch: number;
  queries: number;
  keys: number;
  heads: number;
  kvHeads: number;
  width: number;
  window: number;
  scale: number;
  positions: Int32Array | null;
}

/** The padded head width that the sources are compiled for. */
export function headWidth(width: number): number {
  const fitting = [32, 64, 128, 256].find((padded) => padded >= width);
  if (fitting === undefined) throw new Error(`attention heads of width ${width} are wider than 256`);
  return fitting;
}

/** Which kernel computes the problem: bound by memory, by Hopper's tensor cores, or in the general way. */
export function attentionRoute(
  problem: Problem,
  pageSize: number,
  isHopper: boolean,
): 'split' | 'hopper' | 'general' {
  const { queries, heads, kvHeads, width, positions } = problem;
  if (positions !== null) return 'general';
  const isPadded = headWidth(width) !== width;
  if ((queries * heads) / kvHeads <= SPLIT_ROWS && !isPadded && width <= 128) return 'split';
  const aligned = pageSize % BOX_POSITIONS === 0;
  return isHopper && aligned && (width === 64 || width === 128) ? 'hopper' : 'general';
}

/** Keys of each split: enough blocks to fill the device a few times, whole steps of the kernel. */
export function keysPerSplit(problem: Problem, multiprocessors: number): number {
  const { keys, kvHeads, batch } = problem;
  const wanted = Math.ceil((multiprocessors * 4) / (kvHeads * batch));
  const even = Math.ceil(keys / wanted / SPLIT_KEYS) * SPLIT_KEYS;
  return Math.max(LEAST_KEYS_PER_SPLIT, even);
}

/** Strides of [B,T,H,D] rows as the sources' `Source` takes them, with the pages' address table. */
function source(
  base: number,
  pages: number,
  batch: number,
  position: number,
  head: number,
  pageSize: number,
): KernelArgument {
  return int64s([base, pages, batch, position, head, pageSize], 6);
}
function rows(backend: CudaBackend, info: TensorInfo): KernelArgument {
  const [, time = 1, heads = 1, width = 1] = info.shape;
  return source(backend.pointer(info), 0, time * heads * width, heads * width, width, ONE_PAGE);
}

/** Uploads what `bytes` holds for the length of `use`. */
function uploaded(backend: CudaBackend, bytes: ArrayBufferView, use: (address: number) => void): void {
  backend.scratch(bytes.byteLength, (address) => {
    backend.device.driver.upload(address, bytes);
    use(address);
  });
}

/** The page table uploaded last: every layer of a YOCO cross-decoder reads the same pages. */
const lastTables = new WeakMap<
  CudaBackend,
  { addresses: readonly number[]; block: Block; capacity: number }
>();

/** Device table of the addresses of the pages' keys, then of their values. */
function pageTable(backend: CudaBackend, cache: Cache): number {
  const { allocator, driver } = backend.device;
  const addresses = [...cache.keys, ...cache.values];
  const last = lastTables.get(backend);
  const isSame =
    last?.addresses.length === addresses.length && last.addresses.every((at, i) => at === addresses[i]);
  if (last !== undefined && isSame) return last.block.pointer;
  const fits = last !== undefined && last.capacity >= addresses.length;
  if (last !== undefined && !fits) allocator.release(last.block);
  const capacity = fits ? last.capacity : Math.max(64, 2 * addresses.length);
  const block = fits ? last.block : allocator.allocate(capacity * 8);
  driver.upload(block.pointer, BigUint64Array.from(addresses, BigInt));
  lastTables.set(backend, { addresses, block, capacity });
  return block.pointer;
}

/** `Shape` of attention.cu; `positions` is the device copy of the query positions. */
function shapeArguments(problem: Problem, positions: number): KernelArgument {
  const bytes = new ArrayBuffer(40);
  const { queries, keys, heads, kvHeads, width, window, scale } = problem;
  new Int32Array(bytes, 0, 6).set([queries, keys, heads, kvHeads, width, window]);
  new Float32Array(bytes, 24, 1)[0] = scale;
  new BigUint64Array(bytes, 32, 1)[0] = BigInt(positions);
  return { kind: 'bytes', value: new Uint8Array(bytes), alignment: 8 };
}

function withPositions(backend: CudaBackend, problem: Problem, use: (shape: KernelArgument) => void): void {
  if (problem.positions === null) use(shapeArguments(problem, 0));
  else
    uploaded(backend, problem.positions, (address) => {
      use(shapeArguments(problem, address));
    });
}

const tileBytes = (head: number, rowCount: number): number => rowCount * (head + 8) * 2;

function general(
  backend: CudaBackend,
  problem: Problem,
  q: TensorInfo,
  cache: Cache,
  out: number,
  logSumExp: number,
): void {
  const head = headWidth(problem.width);
  const pages = pageTable(backend, cache);
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
    const grid = [Math.ceil(problem.queries / ROWS), problem.heads, problem.batch] as const;
    const kernel = { file: 'attention', name: 'attention_forward', head };
    backend.launch(kernel, grid, THREADS, args, tileBytes(head, 3 * ROWS));
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
  const { batch, queries, keys, heads, kvHeads, width, window, scale } = problem;
  const perSplit = keysPerSplit(problem, backend.device.driver.multiprocessors);
  const splits = Math.ceil(keys / perSplit);
  const pages = pageTable(backend, cache);
  const partialBytes = batch * kvHeads * splits * SPLIT_ROWS * (width + 2) * 4;
  backend.scratch(partialBytes, (partial) => {
    const view = [
      pages,
      pages + cache.keys.length * 8,
      cache.batchStride,
      cache.positionStride,
      cache.headStride,
    ];
    const args = [
      pointer(backend.pointer(q)),
      int64s([...view, cache.pageSize], 6),
      pointer(partial),
      ...[queries, keys, heads, kvHeads, window].map(int32),
      float32(scale),
      int32(perSplit),
    ];
    const kernel = { file: 'attention_decode', name: 'attention_split', head: width };
    const shared = tileBytes(width, SPLIT_ROWS + 4 * SPLIT_KEYS);
    backend.launch(kernel, [splits, kvHeads, batch], THREADS, args, shared);
    const join = [
      pointer(partial),
      pointer(out),
      pointer(logSumExp),
      ...[queries, heads, kvHeads, splits].map(int32),
    ];
    backend.launch(
      { file: 'attention_decode', name: 'attention_join', head: width },
      [heads, queries, batch],
      width,
      join,
    );
  });
}

/** `Problem` of attention_hopper.cu. */
function hopperProblem(problem: Problem, pageSize: number): KernelArgument {
  const { queries, keys, heads, kvHeads, window, scale } = problem;
  const bytes = new ArrayBuffer(28);
  new Int32Array(bytes, 0, 6).set([queries, keys, heads, kvHeads, window, pageSize]);
  new Float32Array(bytes, 24, 1)[0] = scale * LOG2_E;
  return { kind: 'bytes', value: new Uint8Array(bytes), alignment: 4 };
}

const mapsOf = new WeakMap<CudaBackend, TensorMaps>();

function hopper(
  backend: CudaBackend,
  problem: Problem,
  q: TensorInfo,
  cache: Cache,
  out: number,
  logSumExp: number,
): void {
  const { batch, queries, keys, heads, kvHeads, width } = problem;
  const maps = mapsOf.get(backend) ?? new TensorMaps(backend.device.driver, backend.storage);
  mapsOf.set(backend, maps);
  const mapQ = maps.encode({
    address: backend.pointer(q), width, positions: queries, heads, batch,
    positionStride: heads * width, headStride: width, batchStride: queries * heads * width,
  }); // prettier-ignore
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
  uploaded(backend, tables, (address) => {
    const args: KernelArgument[] = [
      { kind: 'bytes', value: mapQ, alignment: 64 },
      pointer(address),
      pointer(address + cache.keys.length * TENSOR_MAP_BYTES),
      pointer(out),
      pointer(logSumExp),
      hopperProblem(problem, cache.pageSize),
    ];
    const blocks = Math.ceil(queries / HOPPER_ROWS) * heads * batch;
    const kernel = { file: 'attention_hopper', name: 'attention_forward', head: width };
    // Q, two stages of K and of V, and room to align them to 1 KiB.
    backend.launch(kernel, [blocks], 384, args, 5 * HOPPER_ROWS * width * 2 + 1024);
  });
}

function attend(
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
  const run = routes[attentionRoute(problem, cache.pageSize, isHopper)];
  run(backend, problem, q, cache, backend.pointer(out), logSumExp);
}

function problemOf(
  q: TensorInfo,
  kvHeads: number,
  keys: number,
  attrs: AttentionAttributes & { positions?: Int32Array | null },
): Problem {
  const [batch = 1, queries = 1, heads = 1, width = 1] = q.shape;
  const { window, scale, positions = null } = attrs;
  return { batch, queries, keys, heads, kvHeads, width, window: window ?? 0, scale, positions };
}

function causalAttention(
  backend: CudaBackend,
  q: TensorInfo,
  k: TensorInfo,
  v: TensorInfo,
  attrs: CausalAttentionAttributes,
): TensorInfo[] {
  const [batch = 1, keys = 1, kvHeads = 1, width = 1] = k.shape;
  const problem = problemOf(q, kvHeads, keys, attrs);
  const out = backend.output(q.shape);
  const logSumExp = backend.output([batch, problem.heads, problem.queries], 'float32', 'float32');
  const cache: Cache = {
    keys: [backend.pointer(k)],
    values: [backend.pointer(v)],
    pageSize: ONE_PAGE,
    positionStride: kvHeads * width,
    headStride: width,
    batchStride: keys * kvHeads * width,
  };
  attend(backend, problem, q, cache, out, backend.pointer(logSumExp, 'float32'));
  return [out, logSumExp];
}

function pagedAttention(
  backend: CudaBackend,
  inputs: Readonly<Record<string, TensorInfo>>,
  attrs: PagedAttentionAttributes,
): TensorInfo {
  const q = inputs.q as TensorInfo;
  const used = Math.ceil(attrs.length / attrs.pageSize);
  const pages = (name: string): TensorInfo[] =>
    Array.from({ length: used }, (_, index) => inputs[`${name}${index}`] as TensorInfo);
  const [, kvHeads = 1, pageSize = 1, width = 1] = (inputs.key0 as TensorInfo).shape;
  const out = backend.output(q.shape);
  const cache: Cache = {
    keys: pages('key').map((page) => backend.pointer(page)),
    values: pages('value').map((page) => backend.pointer(page)),
    pageSize,
    positionStride: width,
    headStride: pageSize * width,
    batchStride: kvHeads * pageSize * width,
  };
  attend(backend, problemOf(q, kvHeads, attrs.length, attrs), q, cache, out, 0);
  return out;
}

interface GradientInputs {
  dy: TensorInfo;
  q: TensorInfo;
  k: TensorInfo;
  v: TensorInfo;
  out: TensorInfo;
  logSumExp: TensorInfo;
}

function causalAttentionGrad(
  backend: CudaBackend,
  inputs: GradientInputs,
  attrs: CausalAttentionAttributes,
): TensorInfo[] {
  const { dy, q, k, v, out, logSumExp } = inputs;
  const [, keys = 1, kvHeads = 1] = k.shape;
  const problem = problemOf(q, kvHeads, keys, attrs);
  const { batch, queries, heads, width } = problem;
  if (width > 128) throw new Error(`the gradient of attention has heads of at most 128, not ${width}`);
  const head = headWidth(width);
  const grads = [q, k, v].map((info) => backend.output(info.shape));
  const [dq = 0, dk = 0, dv = 0] = grads.map((info) => backend.pointer(info));
  const count = batch * queries * heads;
  backend.scratch(count * 4, (delta) => {
    const deltaArgs = [dy, out].map((info) => pointer(backend.pointer(info)));
    const sizes = [int64(count), ...[queries, heads, width].map(int32)];
    const deltaKernel = { file: 'attention', name: 'attention_delta', head };
    backend.launch(deltaKernel, [Math.ceil(count / 8)], 256, [...deltaArgs, pointer(delta), ...sizes]);
    withPositions(backend, problem, (shape) => {
      const common = [
        ...[q, k, v, dy].map((info) => rows(backend, info)),
        pointer(backend.pointer(logSumExp, 'float32')),
        pointer(delta),
      ];
      const shared = tileBytes(head, 2 * ROWS + 2 * 32);
      const byQuery = [Math.ceil(queries / ROWS), heads, batch] as const;
      const byKey = [Math.ceil(keys / ROWS), kvHeads, batch] as const;
      const kernel = (name: string) => ({ file: 'attention', name, head });
      backend.launch(
        kernel('attention_grad_query'),
        byQuery,
        THREADS,
        [...common, pointer(dq), shape],
        shared,
      );
      backend.launch(
        kernel('attention_grad_key'),
        byKey,
        THREADS,
        [...common, pointer(dk), pointer(dv), shape],
        shared,
      );
    });
  });
  return grads;
}

/** Attention on tensor cores; under float32 storage the composed form keeps full precision. */
export function registerAttention(): void {
  const on = CUDA_BACKEND;
  registerFusedKernel(on, 'CausalAttention', ({ q, k, v }, attrs, backend: CudaBackend) =>
    causalAttention(backend, q, k, v, attrs),
  );
  registerFusedKernel(on, 'CausalAttentionGrad', (inputs, attrs, backend: CudaBackend) =>
    causalAttentionGrad(backend, inputs, attrs),
  );
  registerFusedKernel(on, 'PagedAttention', (inputs, attrs, backend: CudaBackend) =>
    pagedAttention(backend, inputs, attrs),
  );
}
