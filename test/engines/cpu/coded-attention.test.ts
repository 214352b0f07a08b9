/** The kernels for codes, in WebAssembly and in C: against float64 over what the codes mean, whatever the number of threads. */
import { spawnSync } from 'node:child_process';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CpuBackend, type Floats } from '../../../src/engines/cpu/backend.js';
import {
  attendByTasks,
  type CodedContext,
  noteInfinities,
} from '../../../src/engines/cpu/fused/coded-tasks.js';
import { emptySoftmax, finish } from '../../../src/engines/cpu/fused/paged-decode.js';
import { attendToCodes } from '../../../src/engines/cpu/native/coded.js';
import { loadNative, type Native } from '../../../src/engines/cpu/native/library.js';
import { BufferPool } from '../../../src/engines/cpu/pool.js';
import { SharedArena } from '../../../src/engines/cpu/wasm/arena.js';
import { CACHE_TYPES, type CacheType, codeWords, GROUP } from '../../../src/ops/attention/cache-type.js';
import type { CodeArrays } from '../../../src/ops/attention/code-page.js';
import { decodeGroup, encodeGroup, groupOf } from '../../../src/ops/attention/codes.js';
import { moduleUrl, SCRIPT } from '../../cli/program.js';
import { Inputs } from '../../ops/kernels/contract.js';
import { skipBecause } from '../../skip.js';

const test = suite('cpu engine: attention to codes');

const COMPRESSED = CACHE_TYPES.filter((type) => type !== 'float32');

interface Shape {
  readonly type: CacheType;
  readonly heads: number;
  /** Queries of a head. */
  readonly queries: number;
  readonly width: number;
  /** Groups of positions, and of a page. */
  readonly groups: number;
  readonly pageGroups: number;
  /** Of the scores: with large ones a few positions have all the weight. */
  readonly scale: number;
}

const backends = new Map<number, CpuBackend>();

function backendOf(threads: number): CpuBackend {
  const backend = backends.get(threads) ?? new CpuBackend(new BufferPool(), undefined, threads);
  backends.set(threads, backend);
  return backend;
}

const inC = new Map([1, 2, 4].map((threads) => [threads, loadNative(threads).native]));

/** Runs with the softmax by WebAssembly, and by the kernels in C. */
function onBoth(
  title: string,
  run: (attend: (threads: number, context: CodedContext) => Floats) => void,
): void {
  test(title, () => {
    run((threads, context) => attend(backendOf(threads), context));
  });
  if (inC.get(1))
    test(`${title}, in C`, () => {
      run(attendInC);
    });
  else skipBecause('no C compiler when the package was installed', test, `${title}, in C`);
}

function attendInC(threads: number, context: CodedContext): Floats {
  const native = inC.get(threads);
  if (!native) throw new Error(`no kernels in C for ${threads} threads`);
  // Codes of a real cache lie in memory of JavaScript.
  const pages = context.pages.map((page) => ({
    keyCodes: page.keyCodes.slice(),
    valueCodes: page.valueCodes.slice(),
    keyScales: page.keyScales.slice(),
    valueScales: page.valueScales.slice(),
    pageGroups: page.pageGroups,
  }));
  const out = new Float32Array(context.queries.length);
  const none = new Float32Array(0);
  attendToCodes(native, { ...context, pages }, { keys: none, values: none, rows: 0, from: 0, count: 0 }, out);
  return out;
}

function sharedWords(backend: CpuBackend, length: number): Int32Array {
  const arena = backend.attentionThreads?.arena;
  const at = arena?.take(4 * length);
  if (arena === undefined || at === undefined) throw new Error('no shared memory');
  return new Int32Array(arena.memory.buffer, at, length).fill(0);
}

interface Made {
  readonly context: CodedContext;
  /** [heads, groups * GROUP, width] as the codes mean them. */
  readonly key: Float32Array;
  readonly value: Float32Array;
}

function make(backend: CpuBackend, shape: Shape): Made {
  const { type, heads, queries, width, groups, pageGroups, scale } = shape;
  const words = codeWords(type, width);
  const rows = heads * pageGroups * GROUP;
  const pages = Array.from({ length: Math.ceil(groups / pageGroups) }, (): CodeArrays => ({
    keyCodes: sharedWords(backend, rows * words.codes),
    valueCodes: sharedWords(backend, rows * words.codes),
    keyScales: sharedWords(backend, heads * pageGroups * words.keyScales),
    valueScales: sharedWords(backend, heads * pageGroups * words.valueScales),
    pageGroups,
  }));
  const inputs = new Inputs(7);
  const normal = (count: number, deviation: number, mean = 0): Floats =>
    Float32Array.from(inputs.normal([count], deviation, mean).values);
  const size = GROUP * width;
  const rowsOf = {
    key: new Float32Array(heads * groups * size),
    value: new Float32Array(heads * groups * size),
  };
  for (const kind of ['key', 'value'] as const)
    for (let head = 0; head < heads; head++)
      for (let group = 0; group < groups; group++) {
        const page = pages[Math.floor(group / pageGroups)] as CodeArrays;
        const at = { head, group: group % pageGroups, pageGroups, width };
        const into = groupOf(type, kind, { codes: page[`${kind}Codes`], scales: page[`${kind}Scales`] }, at);
        encodeGroup(type, kind, normal(size, 1, kind === 'key' ? 0.5 : -0.2), into);
        const from = (head * groups + group) * size;
        decodeGroup(type, kind, into, rowsOf[kind].subarray(from, from + size));
      }
  const own = normal(heads * queries * width, scale / Math.sqrt(width));
  return { context: { type, pages, groups, heads, width, queries: own }, ...rowsOf };
}

function attend(backend: CpuBackend, context: CodedContext): Floats {
  const softmax = emptySoftmax(context.queries.length / context.width, context.width);
  assert.ok(attendByTasks(backend, context, softmax), 'the kernels take it');
  const out = new Float32Array(context.queries.length);
  finish(softmax, out, context.width);
  return out;
}

function reference({ context, key, value }: Made, length: number): Float64Array {
  const { heads, width, queries } = context;
  const group = queries.length / (heads * width);
  const out = new Float64Array(queries.length);
  for (let row = 0; row < heads * group; row++) {
    const from = Math.floor(row / group) * length * width;
    const scores = Float64Array.from({ length }, (_, t) => {
      let sum = 0;
      for (let d = 0; d < width; d++)
        sum += (queries[row * width + d] as number) * (key[from + t * width + d] as number);
      return sum;
    });
    const largest = scores.reduce((a, b) => Math.max(a, b));
    const weights = scores.map((score) => Math.exp(score - largest));
    const total = weights.reduce((a, b) => a + b);
    for (const [t, weight] of weights.entries())
      for (let d = 0; d < width; d++)
        out[row * width + d] =
          (out[row * width + d] as number) + (weight / total) * (value[from + t * width + d] as number);
  }
  return out;
}

const SHAPES: readonly Omit<Shape, 'type'>[] = [
  { heads: 1, queries: 1, width: 16, groups: 1, pageGroups: 1, scale: 1 },
  { heads: 2, queries: 2, width: 64, groups: 7, pageGroups: 3, scale: 1 },
  { heads: 3, queries: 3, width: 48, groups: 5, pageGroups: 8, scale: 4 },
  { heads: 1, queries: 5, width: 32, groups: 3, pageGroups: 2, scale: 0 },
  { heads: 1, queries: 4, width: 128, groups: 4, pageGroups: 4, scale: 30 },
  { heads: 1, queries: 16, width: 80, groups: 2, pageGroups: 2, scale: 2 },
  { heads: 1, queries: 1, width: 256, groups: 2, pageGroups: 1, scale: 1 },
  // Several tasks: 64 groups make one.
  { heads: 2, queries: 2, width: 16, groups: 75, pageGroups: 70, scale: 3 },
];

/** What only the kernels in C take, and every number of vectors, or rows of a vector, whatever their width. */
const SHAPES_IN_C: readonly Omit<Shape, 'type'>[] = [
  { heads: 2, queries: 3, width: 8, groups: 18, pageGroups: 5, scale: 2 },
  { heads: 1, queries: 7, width: 64, groups: 2, pageGroups: 2, scale: 2 },
  { heads: 1, queries: 3, width: 256, groups: 17, pageGroups: 4, scale: 2 },
  { heads: 1, queries: 19, width: 72, groups: 1, pageGroups: 1, scale: 2 },
];

/** Integers round queries and weights to 16 bits. */
const tolerance = (type: CacheType, scale: number): number =>
  type === 'int8' || type === 'int4' ? 1e-4 * Math.max(1, scale) : 4e-6 * Math.max(1, scale);

for (const type of COMPRESSED)
  onBoth(`${type}: equals float64 over what the codes mean`, (attend) => {
    for (const shape of attend === attendInC ? [...SHAPES, ...SHAPES_IN_C] : SHAPES) {
      const made = make(backendOf(2), { ...shape, type });
      const expected = reference(made, shape.groups * GROUP);
      const found = attend(2, made.context);
      for (const [i, x] of found.entries()) {
        const error = Math.abs(x - (expected[i] as number));
        if (!(error <= tolerance(type, shape.scale)))
          assert.unreachable(`${JSON.stringify(shape)}: element ${i} is ${x}, not ${expected[i]}`);
      }
    }
  });

onBoth('no bit depends on the number of threads', (attend) => {
  for (const type of COMPRESSED) {
    const shape: Shape = { type, heads: 2, queries: 2, width: 32, groups: 140, pageGroups: 70, scale: 2 };
    const outputs = [1, 2, 4].map((threads) => attend(threads, make(backendOf(threads), shape).context));
    for (const other of outputs.slice(1)) assert.equal(other, outputs[0], type);
  }
});

onBoth('what is not a number stays so', (attend) => {
  const shape = { heads: 1, queries: 2, width: 16, groups: 3, pageGroups: 3, scale: 1 };
  for (const type of COMPRESSED) {
    const { context } = make(backendOf(2), { ...shape, type });
    context.queries[3] = NaN;
    const found = attend(2, context);
    assert.ok(found.subarray(0, 16).every(Number.isNaN), `${type}: the query with a NaN`);
    assert.ok(found.subarray(16).every(Number.isFinite), `${type}: the other one`);
  }
  for (const type of ['bfloat16', 'float8', 'int8', 'int4'] as const) {
    const { context } = make(backendOf(2), { ...shape, type });
    const [page] = context.pages as [CodeArrays];
    const rows = new Float32Array(GROUP * 16).fill(1);
    rows[40] = Infinity;
    const at = { head: 0, group: 1, pageGroups: 3, width: 16 };
    encodeGroup(
      type,
      'value',
      rows,
      groupOf(type, 'value', { codes: page.valueCodes, scales: page.valueScales }, at),
    );
    const found = attend(2, context);
    assert.not.ok(Number.isFinite(found[40 % 16]), `${type}: an infinite value`);
  }
});

test('codes of float16 that are not finite are left to the reference', () => {
  const shape: Shape = {
    type: 'float16',
    heads: 2,
    queries: 1,
    width: 16,
    groups: 2,
    pageGroups: 2,
    scale: 1,
  };
  const { context } = make(backendOf(2), shape);
  const [page] = context.pages as [CodeArrays];
  const groups = { heads: 2, group: 1, count: 1 };
  noteInfinities(page, groups);
  attend(backendOf(2), context);
  const words = page.valueCodes;
  words[words.length - 1] = 0xfc00 << 16;
  noteInfinities(page, groups);
  assert.not.ok(attendByTasks(backendOf(2), context, emptySoftmax(2, 16)));
  if (inC.get(2)) assert.is(attendInC(2, context)[31], -Infinity, 'the kernels in C read them');
});

test('shapes without a kernel, and codes elsewhere, are left to the reference', () => {
  const shape: Shape = { type: 'int8', heads: 1, queries: 1, width: 16, groups: 1, pageGroups: 1, scale: 1 };
  const { context } = make(backendOf(2), shape);
  const elsewhere = {
    ...context,
    pages: context.pages.map((page) => ({ ...page, keyCodes: page.keyCodes.slice() })),
  };
  assert.not.ok(attendByTasks(backendOf(2), elsewhere, emptySoftmax(1, 16)));
  const odd = make(backendOf(2), { ...shape, width: 24 });
  assert.not.ok(attendByTasks(backendOf(2), odd.context, emptySoftmax(1, 24)));
});

if (inC.get(2))
  test('rows as computed are attended to beside the codes, in C', () => {
    for (const count of [1, 5, 64]) {
      const shape = { heads: 2, queries: 3, width: 16, groups: 3, pageGroups: 3, scale: 2 };
      const { context, key, value } = make(backendOf(2), { ...shape, type: 'bfloat16' });
      const [ring, from, size] = [128, 64, shape.groups * GROUP * 16];
      const computed = { keys: new Float32Array(2 * ring * 16), values: new Float32Array(2 * ring * 16) };
      const seen = {
        key: new Float32Array(2 * (128 + count) * 16),
        value: new Float32Array(2 * (128 + count) * 16),
      };
      for (let head = 0; head < 2; head++)
        for (const [to, of, all] of [
          [computed.keys, key, seen.key],
          [computed.values, value, seen.value],
        ] as const) {
          const rows = of.subarray(head * size, head * size + (128 + count) * 16);
          to.set(rows.subarray(128 * 16), (head * ring + from) * 16);
          all.set(rows, head * rows.length);
        }
      const out = new Float32Array(context.queries.length);
      const raw = { ...computed, rows: ring, from, count };
      attendToCodes(inC.get(2) as Native, { ...context, groups: 2 }, raw, out);
      const expected = reference({ context, ...seen }, 128 + count);
      for (const [i, x] of expected.entries())
        assert.ok(Math.abs(x - (out[i] as number)) < 1e-5, `${count}: ${i}`);
    }
  });

test('memory that was given back is handed out again, and none of it twice', () => {
  const arena = SharedArena.create() as SharedArena;
  const inputs = new Inputs(3);
  const taken: { at: number; bytes: number }[] = [];
  for (const x of inputs.normal([400], 1).values) {
    const bytes = Math.ceil(Math.abs(x) * 1e5) + 1;
    if (x < 0 && taken.length > 0) {
      const [range] = taken.splice(bytes % taken.length, 1) as [{ at: number; bytes: number }];
      arena.give(range.at, range.bytes);
      continue;
    }
    const at = arena.take(bytes) as number;
    for (const other of taken) assert.ok(at + bytes <= other.at || other.at + other.bytes <= at);
    taken.push({ at, bytes });
  }
  for (const { at, bytes } of taken) arena.give(at, bytes);
  const { byteLength } = arena.memory.buffer;
  assert.is(arena.freeBytes, byteLength - 2 ** 16);
  assert.is(arena.take(arena.freeBytes), 2 ** 16);
  assert.is(arena.memory.buffer.byteLength, byteLength);
  assert.is(arena.take(2 ** 33), undefined);
});

test('a process ends while the threads sleep', () => {
  const code = `
    import { startCpu } from ${JSON.stringify(moduleUrl('engines/cpu/index'))};
    import { CompressedPages, compressedAttention } from ${JSON.stringify(moduleUrl('ops/index'))};
    import * as tf from ${JSON.stringify(moduleUrl('tf'))};
    await startCpu({ threads: 3 });
    const pages = new CompressedPages('int8', { batch: 1, kvHeads: 4, headDim: 16 });
    const rows = tf.ones([1, 1000, 4, 16]);
    pages.append(rows, rows);
    pages.append(tf.ones([1, 1, 4, 16]), tf.ones([1, 1, 4, 16]));
    const out = compressedAttention(tf.ones([1, 1, 4, 16]), pages);
    process.stdout.write(String(out.dataSync()[0]));
  `;
  const { status, stdout, stderr } = spawnSync(process.execPath, [...SCRIPT, code], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  assert.is(status, 0, stderr);
  assert.is(stdout, '1');
});

test.run();
