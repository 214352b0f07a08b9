/**
 * Attention of a single query over codes. ONNX Runtime's products take float32, so a block of codes is cast while it is in the
 * cache; scales and minima are taken into the queries and the weights, of which there are few.
 */
import { type CacheType, codeWords, GROUP } from '../../../ops/attention/cache-type.js';
import { bytesOf, decodeGroup, groupOf, halvesOf, type Kind } from '../../../ops/attention/codes.js';
import type { CodeArrays } from '../../../ops/attention/code-page.js';
import type { CpuBackend, Floats } from '../backend.js';
import { type GraphBuilder, graph } from '../graph.js';
import type { OnnxTensor } from '../runtime.js';
import { attendToBlock, mergeAll, ROWS_PER_PRODUCT, type Softmax } from './paged-decode.js';

/** The first `groups` groups of a head of a page, and the queries that read them. */
export interface CodedHead {
  readonly type: CacheType;
  readonly page: CodeArrays;
  /** Among those of all sequences. */
  readonly head: number;
  readonly groups: number;
  /** Query heads of the head. */
  readonly group: number;
  readonly width: number;
  /** [group, D], scaled. */
  readonly queries: Floats;
}

/** Elements of a block as float32: those of keys and values together stay in the caches of two cores. */
const BLOCK_ELEMENTS = 2 ** 18;

export function attendToCodes(backend: CpuBackend, head: CodedHead, softmax: Softmax): void {
  const most = Math.max(1, Math.floor(BLOCK_ELEMENTS / (GROUP * head.width)));
  const attend = head.type === 'float8' ? attendDecoded : attendBlock;
  for (let first = 0; first < head.groups; first += most) {
    attend(backend, head, first, Math.min(most, head.groups - first), softmax);
  }
}

/** ONNX Runtime casts float8 element by element, which takes longer than a table here. */
function attendDecoded(
  backend: CpuBackend,
  { type, page, head, group, width, queries }: CodedHead,
  first: number,
  count: number,
  softmax: Softmax,
): void {
  const size = count * GROUP * width;
  backend.withScratch([size, size], ([keys, values]) => {
    for (const [kind, rows] of [
      ['key', keys],
      ['value', values],
    ] as const)
      // prettier-ignore
      for (let i = 0; i < count; i++) {
        const words = { codes: page[`${kind}Codes`], scales: page[`${kind}Scales`] };
        const at = { head, group: first + i, pageGroups: page.pageGroups, width };
        const part = rows.subarray(i * GROUP * width, (i + 1) * GROUP * width);
        decodeGroup(type, kind, groupOf(type, kind, words, at), part);
      }
    const block = { head, heads: 1, from: 0, count, rows: GROUP, group, width, queries, keys, values };
    attendToBlock(backend, block, softmax);
  });
}

function attendBlock(
  backend: CpuBackend,
  { type, page, head, group, width, queries }: CodedHead,
  first: number,
  count: number,
  softmax: Softmax,
): void {
  const { runtime } = backend;
  const words = codeWords(type, width);
  const from = head * page.pageGroups + first;
  const part = (x: Int32Array, perGroup: number): Int32Array =>
    x.subarray(from * perGroup, (from + count) * perGroup);
  const codes = (kind: Kind): OnnxTensor => codesAs(type, part(page[`${kind}Codes`], GROUP * words.codes), count, backend); // prettier-ignore
  const scales = (kind: Kind, dims: readonly number[]): OnnxTensor =>
    runtime.wrap(halvesOf(part(page[`${kind}Scales`], words[`${kind}Scales`])), dims, 'float16');
  const [maximum, sum] = [new Float32Array(group), new Float32Array(group)];
  const weighted = new Float32Array(group * width);
  const feeds = {
    q: runtime.wrap(queries, [1, group, 1, width]),
    k: codes('key'),
    v: codes('value'),
    ...(words.keyScales > 0 && {
      ks: scales('key', [count, 1, 2, width]),
      vs: scales('value', [count, 1, GROUP, 2]),
    }),
  };
  const fetches = {
    maximum: runtime.wrap(maximum, [1, group, 1, 1]),
    sum: runtime.wrap(sum, [1, group, 1, 1]),
    weighted: runtime.wrap(weighted, [1, group, 1, width]),
  };
  backend.run(`CodeDecode/${type}/${width}`, () => codeGraph(type, width), feeds, fetches);
  mergeAll(softmax, head * group, width, { maximum, sum, weighted });
}

/** Codes [count, 1, GROUP, elements] in the type that the graph casts; without scales, in fewer and longer groups. */
function codesAs(type: CacheType, words: Int32Array, count: number, { runtime }: CpuBackend): OnnxTensor {
  if (type === 'float16' || type === 'bfloat16') {
    const halves = halvesOf(words);
    const rows = rowsPerProduct(count);
    const products = (count * GROUP) / rows;
    return runtime.wrap(halves, [products, 1, rows, halves.length / (products * rows)], type);
  }
  const dims = (elements: number): number[] => [count, 1, GROUP, elements / (count * GROUP)];
  const bytes = bytesOf(words);
  if (type === 'int4') return runtime.wrap(bytes, dims(bytes.length), 'uint8');
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  return runtime.wrap(signed, dims(bytes.length), 'int8');
}

/** The largest power of two of groups that divides `count`, in rows, at most those of a product of float32 keys. */
function rowsPerProduct(count: number): number {
  let rows = GROUP;
  while (rows < ROWS_PER_PRODUCT && (count * GROUP) % (2 * rows) === 0) rows *= 2;
  return rows;
}

/** How a type multiplies queries with keys, and weights with values. */
interface Products {
  scores(q: string): string;
  weighted(weights: string): string;
}

/** Per query head the largest score, the sum of exponentials and the weighted values over all groups of the block. */
function codeGraph(type: CacheType, width: number) {
  return graph((g) => {
    const [groups, positions] = [g.integers(0), g.integers(3)];
    const q = g.input('q', 4);
    const products = type === 'int4' ? nibbles(g, width) : type === 'int8' ? bytes(g) : cast(g, type);
    const scores = products.scores(q);
    const peak = g.op('ReduceMax', [scores, positions], { keepdims: 1 });
    const weights = g.op('Exp', [g.op('Sub', [scores, peak])]);
    const maximum = g.op('ReduceMax', [peak, groups], { keepdims: 1 });
    const fade = g.op('Exp', [g.op('Sub', [peak, maximum])]);
    const total = (x: string) => g.op('ReduceSum', [g.op('Mul', [x, fade]), groups], { keepdims: 1 });
    g.output('sum', 4, total(g.op('ReduceSum', [weights, positions], { keepdims: 1 })));
    g.output('weighted', 4, total(products.weighted(weights)));
    g.output('maximum', 4, maximum);
  });
}

const FLOAT = { to: 1 };

function cast(g: GraphBuilder, type: CacheType): Products {
  const input = (name: string) =>
    g.op('Cast', [g.input(name, 4, type === 'float16' ? type : 'bfloat16')], FLOAT);
  const [k, v] = [input('k'), input('v')];
  return {
    scores: (q) => g.product(q, k, { transB: 1 }),
    weighted: (weights) => g.op('MatMul', [weights, v]),
  };
}

/** Scales and minima: of keys [n, 1, 1, D] each, of values [n, 1, 1, GROUP]. */
function scalesOf(g: GraphBuilder): Record<Kind, readonly [scale: string, minimum: string]> {
  const halves = (name: string, axis: number): [string, string] =>
    g.split(g.op('Cast', [g.input(name, 4, 'float16')], FLOAT), axis);
  const flat = g.integers(0, 1, 1, GROUP);
  const [scale, minimum] = halves('vs', 3);
  return {
    key: halves('ks', 2),
    value: [g.op('Reshape', [scale, flat]), g.op('Reshape', [minimum, flat])],
  };
}

/** x = minimum + scale (code + 128). */
function bytes(g: GraphBuilder): Products {
  const { key, value } = scalesOf(g);
  const base = ([scale, minimum]: readonly [string, string]) =>
    g.op('Add', [minimum, g.op('Mul', [scale, g.scalar(128)])]);
  const codes = (name: string) => g.op('Cast', [g.input(name, 4, 'int8')], FLOAT);
  const [k, v] = [codes('k'), codes('v')];
  return {
    scores: (q) => {
      const product = g.product(g.op('Mul', [q, key[0]]), k, { transB: 1 });
      return g.op('Add', [product, g.product(q, base(key), { transB: 1 })]);
    },
    weighted: (weights) => {
      const product = g.op('MatMul', [g.op('Mul', [weights, value[0]]), v]);
      return g.op('Add', [product, g.product(weights, base(value), { transB: 1 })]);
    },
  };
}

/**
 * x = minimum + scale code, of codes two in a byte: byte = even + 16 odd. Only the odd ones are separated (ONNX Runtime has fast
 * casts, but no fast operators on bits): even = byte - 16 odd, which is taken into the queries and the results.
 */
function nibbles(g: GraphBuilder, width: number): Products {
  const { key, value } = scalesOf(g);
  const sixteenth = g.scalar(1 / 16);
  const both = (name: string): [string, string] => {
    const byte = g.op('Cast', [g.input(name, 4, 'uint8')], FLOAT);
    return [byte, g.op('Floor', [g.op('Mul', [byte, sixteenth])])];
  };
  const [k, v] = [both('k'), both('v')];
  const pairs = g.integers(0, 0, 0, width / 2, 2);
  const half = g.integers(0, 0, 0, width / 2);
  const without16 = (x: string, y: string) => g.op('Sub', [x, g.op('Mul', [y, g.scalar(16)])]);
  return {
    scores: (q) => {
      const scaled = g.op('Reshape', [g.op('Mul', [q, key[0]]), pairs]);
      const [even, odd] = g.split(scaled, 4).map((x) => g.op('Reshape', [x, half])) as [string, string];
      const product = g.op('Add', [
        g.product(even, k[0], { transB: 1 }),
        g.product(without16(odd, even), k[1], { transB: 1 }),
      ]);
      return g.op('Add', [product, g.product(q, key[1], { transB: 1 })]);
    },
    weighted: (weights) => {
      const scaled = g.op('Mul', [weights, value[0]]);
      const [byte, odd] = [g.op('MatMul', [scaled, v[0]]), g.op('MatMul', [scaled, v[1]])];
      const column = g.integers(4);
      const apart = [without16(byte, odd), odd].map((x) => g.op('Unsqueeze', [x, column]));
      const whole = g.op('Reshape', [g.op('Concat', apart, { axis: 4 }), g.integers(0, 0, 0, width)]);
      return g.op('Add', [whole, g.product(weights, value[1], { transB: 1 })]);
    },
  };
}
