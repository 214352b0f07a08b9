/** Keys and values in a compressed cache: coding, a decoding step, and attention over codes. */
import { type CacheType, codeWords, GROUP } from '../../../ops/attention/cache-type.js';
import {
  type CompressAttributes, type CompressedAttentionAttributes, type CompressedWriteAttributes,
} from '../../../ops/kernels.js'; // prettier-ignore
import type { TensorInfo } from '../../../tf.js';
import { UsageError } from '../../../errors.js';
import type { CudaBackend } from '../backend.js';
import { int32, pointer } from '../launch.js';
import { CODE_PAGE, CODED_PROBLEM, RAW } from '../structs.js';
import { TILES } from '../tiles.js';
import { joinSplits } from './attention-forward.js';
import { mostSplits, pageTable, tileBytes } from './attention-problem.js';
import { registerFusedOp } from './register.js';

const { attention_coded: CODED } = TILES;
const THREADS = 32 * CODED.WARPS;
/** Rows of queries that one operand of the tensor cores has. */
const NARROW_ROWS = 8;
const WIDTHS: readonly number[] = [32, 64, 128];

type Inputs = Readonly<Record<string, TensorInfo | undefined>>;

/** @throws UsageError for what the sources are not compiled for */
function requireCodable(backend: CudaBackend, type: CacheType, width: number): void {
  const isCoded = type === 'float8' || type === 'int8' || type === 'int4';
  if (isCoded && backend.storage === 'bfloat16' && WIDTHS.includes(width)) return;
  throw new UsageError(
    `the cuda engine keeps keys and values in float8, int8 or int4 with bfloat16 and heads of ${WIDTHS.join(', ')}: ` +
      `not in ${type} with ${backend.storage} and heads of ${width}`,
  );
}

/** Addresses of a page's tensors; zeros for those that are absent. */
function addressesOf(backend: CudaBackend, inputs: Inputs, page: number | ''): number[] {
  return (['keyCodes', 'valueCodes', 'keyScales', 'valueScales'] as const).map((name) => {
    const tensor = inputs[`${name}${page}`];
    return tensor ? backend.pointer(tensor) : 0;
  });
}

/** Shared memory of a block of the split kernel: the rings of its warps, as attention_coded.cu lays them out, or their results. */
function splitBytes(type: CacheType, width: number, rows: number): number {
  const { codes: words } = codeWords(type, width);
  const { WARPS, KEYS, STAGES } = CODED;
  const stages = type === 'int4' ? STAGES : STAGES - 1;
  const pitches = words + (words % 32 === 0 ? 4 : 0) + words + 4;
  const ring = stages * KEYS * (pitches + 1) + 2 * width;
  return 4 * WARPS * Math.max(ring, rows * width);
}

function codePage(backend: CudaBackend, inputs: Inputs) {
  const [keyCodes = 0, valueCodes = 0, keyScales = 0, valueScales = 0] = addressesOf(backend, inputs, '');
  return CODE_PAGE.argument({ keyCodes, valueCodes, keyScales, valueScales });
}

function compressRows(backend: CudaBackend, inputs: Inputs, attrs: CompressAttributes): TensorInfo[] {
  const { type, row, group, count } = attrs;
  const keys = inputs.keys as TensorInfo;
  const [batch = 1, heads = 1, rows = 1, width = 1] = keys.shape;
  requireCodable(backend, type, width);
  const pageGroups = ((inputs.keyCodes as TensorInfo).shape[2] ?? 0) / GROUP;
  const args = [
    codePage(backend, inputs),
    pointer(backend.pointer(keys)),
    pointer(backend.pointer(inputs.values as TensorInfo)),
    ...[rows, row, group, pageGroups].map(int32),
  ];
  const kernel = { file: 'page_code', name: `code_rows_${type}`, head: width };
  backend.launch(kernel, [count, batch * heads], THREADS, args);
  return [];
}

function compressedWrite(
  backend: CudaBackend,
  inputs: Inputs,
  attrs: CompressedWriteAttributes,
): TensorInfo[] {
  const { type, position, pageSize } = attrs;
  const recentKeys = inputs.recentKeys as TensorInfo;
  const [batch = 1, heads = 1, , width = 1] = recentKeys.shape;
  requireCodable(backend, type, width);
  const args = [
    codePage(backend, inputs),
    pointer(backend.writable(recentKeys)),
    pointer(backend.writable(inputs.recentValues as TensorInfo)),
    pointer(backend.pointer(inputs.keys as TensorInfo)),
    pointer(backend.pointer(inputs.values as TensorInfo)),
    ...backend.moving(position),
    int32(pageSize / GROUP),
  ];
  const kernel = { file: 'page_code', name: `code_step_${type}`, head: width, early: true };
  backend.launch(kernel, [batch * heads], THREADS, args);
  return [];
}

function compressedAttention(
  backend: CudaBackend,
  inputs: Inputs,
  attrs: CompressedAttentionAttributes,
): TensorInfo {
  const { type, scale, length, pageSize, rawStart, isRing } = attrs;
  const [q, rawKeys, rawValues] = [inputs.q, inputs.rawKeys, inputs.rawValues] as TensorInfo[] as [TensorInfo, TensorInfo, TensorInfo]; // prettier-ignore
  const [batch = 1, queries = 1, heads = 1, width = 1] = q.shape;
  const [, kvHeads = 1, rows = 1] = rawKeys.shape;
  requireCodable(backend, type, width);
  const { driver, recording } = backend.device;
  const out = backend.output(q.shape);
  const coded = Math.floor((length - 1) / GROUP);
  const pages = Array.from({ length: Math.ceil((coded * GROUP) / pageSize) }, (_, i) =>
    addressesOf(backend, inputs, i),
  );
  const table = pageTable(backend, pages.length > 0 ? pages.flat() : [0, 0, 0, 0]);
  const raw = RAW.argument({
    keys: backend.pointer(rawKeys),
    values: backend.pointer(rawValues),
    rows,
    start: isRing ? -1 : rawStart,
  });
  const problem = CODED_PROBLEM.argument({ tq: queries, heads, kvHeads, pageSize, scale });
  const common = [pointer(backend.pointer(q)), pointer(table), raw];
  if ((queries * heads) / kvHeads > CODED.MOST) {
    if (recording !== null) throw new Error('attention of so many heads cannot follow a growing cache');
    const groups = coded - Math.floor((length - queries) / GROUP) + 1;
    const kernel = { file: 'attention_coded_forward', name: `forward_${type}`, head: width };
    const args = [...common, pointer(backend.pointer(out)), problem, int32(length)];
    backend.launch(kernel, [groups, heads, batch], THREADS, args, tileBytes(width, 3 * GROUP));
    return out;
  }
  const shape = { batch, queries, heads, kvHeads, width };
  const isWide = (queries * heads) / kvHeads > NARROW_ROWS;
  const shared = splitBytes(type, width, isWide ? CODED.MOST : NARROW_ROWS);
  const most = Math.max(1, mostSplits(shape, driver, shared, isWide ? 2 : 3) - 1);
  const perSplit = Math.max(CODED.LEAST / GROUP, Math.ceil(coded / most));
  // A recorded launch will have more keys later. The first split has the keys as computed.
  const splits = (recording === null ? Math.ceil(coded / perSplit) : most) + 1;
  backend.scratch(batch * splits * queries * heads * (width + 2) * 4, (partial) => {
    const args = [
      ...common,
      pointer(partial),
      problem,
      ...(recording === null ? [pointer(0), int32(length)] : backend.moving(length)),
      int32(most),
    ];
    const name = isWide ? `split_wide_${type}` : `split_${type}`;
    const kernel = { file: 'attention_coded', name, head: width, early: true };
    backend.launch(kernel, [splits, kvHeads, batch], THREADS, args, shared);
    joinSplits(backend, shape, splits, { partial, out: backend.pointer(out), logSumExp: 0 });
  });
  return out;
}

export function registerCompressed(): void {
  registerFusedOp('CompressRows', (inputs, attrs, backend) =>
    compressRows(backend, inputs as unknown as Inputs, attrs),
  );
  registerFusedOp('CompressedWrite', (inputs, attrs, backend) =>
    compressedWrite(backend, inputs as unknown as Inputs, attrs),
  );
  registerFusedOp('CompressedAttention', (inputs, attrs, backend) =>
    compressedAttention(backend, inputs, attrs),
  );
}
