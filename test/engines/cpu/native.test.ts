/** The kernels in C against loops in float64, on shapes that fill no vector, panel or block. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCpu } from '../../../src/engines/cpu/index.js';
import { loadNative, type Native } from '../../../src/engines/cpu/native/library.js';
import * as tf from '../../../src/tf.js';
import { skipBecause } from '../../skip.js';
import { randomValues } from '../parity.js';

const test = suite('cpu engine: kernels in C');
const kernels = [1, 2, 3].map((threads) => loadNative(threads).native);

function add(title: string, run: (native: Native) => void): void {
  if (kernels.includes(null)) skipBecause('no C compiler when the package was installed', test, title);
  else
    test(title, () => {
      for (const native of kernels) run(native as Native);
    });
}

function assertClose(found: Float32Array, expected: Float64Array, what: string): void {
  const scale = Math.hypot(...expected) / Math.sqrt(expected.length);
  for (const [i, x] of expected.entries())
    assert.ok(Math.abs(x - (found[i] as number)) <= 1e-5 * scale, `${what}, ${i}: ${found[i]}, not ${x}`);
}

/** op(a) op(b) + before */
function product(
  [a, b, before]: readonly [Float32Array, Float32Array, Float32Array | null],
  [m, n, k]: readonly [number, number, number],
  [transA, transB]: readonly [number, number],
): Float64Array {
  return Float64Array.from({ length: m * n }, (_, at) => {
    const [i, j] = [Math.floor(at / n), at % n];
    let sum = before?.[at] ?? 0;
    for (let q = 0; q < k; q++)
      sum += (a[transA ? q * m + i : i * k + q] as number) * (b[transB ? j * k + q : q * n + j] as number);
    return sum;
  });
}

const SHAPES = [
  [1, 1, 1],
  [5, 3, 2],
  [33, 17, 29],
  [77, 45, 131],
  [13, 70, 389],
  [150, 9, 700],
  [3, 200, 31],
] as const;

add('products of every orientation', (native) => {
  for (const shape of SHAPES)
    for (const orientation of [0, 1, 2, 3]) {
      const [m, n, k] = shape;
      const trans = [orientation & 1, orientation >> 1] as const;
      const before = orientation === 2 ? null : randomValues(m * n, 3);
      const operands = [randomValues(m * k, 1), randomValues(k * n, 2), before] as const;
      const y = new Float32Array(m * n).fill(NaN);
      native.product(operands[0], operands[1], before, y, m, n, k, ...trans);
      assertClose(y, product(operands, shape, trans), `${shape.join()}, ${trans.join()}`);
    }
});

test('no bit depends on the number of threads', () => {
  const [m, n, k] = [150, 90, 700];
  const [a, b] = [randomValues(m * k, 1), randomValues(k * n, 2)];
  const products = kernels.map((native) => {
    const y = new Float32Array(m * n);
    native?.product(a, b, null, y, m, n, k, 0, 1);
    return y;
  });
  for (const y of products) assert.equal(y, products[0]);
});

add('products of few rows', (native) => {
  for (const shape of [
    [1, 7, 50],
    [3, 5, 16],
    [4, 258, 260],
    [1, 3, 5],
  ] as const) {
    const [m, n, k] = shape;
    const operands = [randomValues(m * k, 1), randomValues(k * n, 2), randomValues(m * n, 3)] as const;
    const y = new Float32Array(m * n).fill(NaN);
    native.few_rows(...operands, y, m, n, k);
    assertClose(y, product(operands, shape, [0, 1]), shape.join());
  }
});

/** Keys and values. */
type Pages = readonly (readonly [Float32Array, Float32Array])[];

function randomPages(count: number, size: number): Pages {
  return Array.from(
    { length: count },
    (_, i) => [randomValues(size, 2 * i + 1), randomValues(size, 2 * i + 2)] as const,
  );
}

function addressesOf(native: Native, pages: Pages): [BigUint64Array, BigUint64Array] {
  const of = (which: 0 | 1) => BigUint64Array.from(pages, (page) => native.address(page[which]));
  return [of(0), of(1)];
}

/** Softmax over positions of pages of one sequence, by the definition. */
function attend(
  q: Float32Array,
  pages: Pages,
  s: { heads: number; kvHeads: number; width: number; pageSize: number; from: number; to: number },
): Float64Array {
  const { heads, kvHeads, width, pageSize, from, to } = s;
  const y = new Float64Array(heads * width);
  for (let head = 0; head < heads; head++) {
    const row = (position: number, which: 0 | 1): Float32Array => {
      const page = (pages[Math.floor(position / pageSize)] as readonly [Float32Array, Float32Array])[which];
      const at = Math.floor(head / (heads / kvHeads)) * pageSize + (position % pageSize);
      return page.subarray(at * width, (at + 1) * width);
    };
    const own = q.subarray(head * width, (head + 1) * width);
    const scores = Array.from({ length: to - from }, (_, i) =>
      row(from + i, 0).reduce((sum, x, j) => sum + x * (own[j] as number), 0),
    );
    const peak = Math.max(...scores);
    const weights = scores.map((x) => Math.exp(x - peak));
    const total = weights.reduce((a, b) => a + b);
    for (const [i, w] of weights.entries()) {
      const values = row(from + i, 1);
      for (let j = 0; j < width; j++)
        y[head * width + j] = (y[head * width + j] as number) + (w / total) * (values[j] as number);
    }
  }
  return y;
}

add('attention of one query to pages', (native) => {
  for (const [heads, kvHeads, width, pageSize, from, to] of [
    [4, 2, 64, 1024, 0, 2500],
    [6, 2, 24, 700, 0, 1401],
    [2, 2, 128, 512, 0, 513],
    [4, 1, 32, 256, 100, 300],
    [1, 1, 7, 16, 3, 4],
  ] as const) {
    const pages = randomPages(Math.ceil(to / pageSize), kvHeads * pageSize * width);
    const q = randomValues(heads * width, 99);
    const addresses = addressesOf(native, pages);
    const y = new Float32Array(heads * width).fill(NaN);
    native.paged_attention(q, ...addresses, y, 1, heads, kvHeads, width, pageSize, from, to, 1);
    assertClose(y, attend(q, pages, { heads, kvHeads, width, pageSize, from, to }), `to ${to}`);
  }
});

/** Queries and keys that fill no block, pages that end within one, windows that begin within one, and a query alone. */
const QUERIES = [
  { time: 130, length: 700, heads: 4, kvHeads: 2, width: 64, pageSize: 300, window: 700 },
  { time: 59, length: 59, heads: 3, kvHeads: 1, width: 40, pageSize: 64, window: 59 },
  { time: 300, length: 601, heads: 2, kvHeads: 2, width: 24, pageSize: 601, window: 17 },
  { time: 113, length: 900, heads: 2, kvHeads: 1, width: 7, pageSize: 450, window: 300 },
  { time: 1, length: 1, heads: 2, kvHeads: 1, width: 32, pageSize: 16, window: 1 },
  { time: 2, length: 258, heads: 1, kvHeads: 1, width: 96, pageSize: 257, window: 258 },
] as const;

add('attention of several queries to pages', (native) => {
  for (const shape of QUERIES) {
    const { time, length, heads, kvHeads, width, pageSize, window } = shape;
    const pages = randomPages(Math.ceil(length / pageSize), kvHeads * pageSize * width);
    const q = randomValues(time * heads * width, 99);
    const y = new Float32Array(q.length).fill(NaN);
    const sizes = [1, time, length, heads, kvHeads, width, pageSize, window];
    native.attention(q, ...addressesOf(native, pages), y, ...sizes, 0.7);
    for (let row = 0; row < time; row++) {
      const to = length - time + row + 1;
      const part = [row * heads * width, (row + 1) * heads * width] as const;
      const own = q.subarray(...part).map((x) => x * 0.7);
      const expected = attend(own, pages, { ...shape, from: Math.max(0, to - window), to });
      assertClose(y.subarray(...part), expected, `query ${row} of ${time}, ${length} keys`);
    }
  }
});

test('no bit of attention depends on the number of threads', () => {
  const [batch, time, length, heads, kvHeads, width] = [2, 700, 900, 4, 2, 32] as const;
  const [q, k, v] = [heads * time, kvHeads * length, kvHeads * length].map((rows, i) =>
    randomValues(batch * rows * width, i + 1),
  ) as [Float32Array, Float32Array, Float32Array];
  const outputs = kernels.map((native) => {
    const y = new Float32Array(q.length);
    if (native === null) return y;
    const whole = addressesOf(native, [[k, v]]);
    native.attention(q, ...whole, y, batch, time, length, heads, kvHeads, width, 0, 333, 0.2);
    return y;
  });
  for (const y of outputs) assert.equal(y, outputs[0]);
});

/** A single head, by the recurrence. @returns outputs, and the state in place of that before */
function retain(
  [q, k, v, logDecay]: readonly [Float32Array, Float32Array, Float32Array, Float32Array],
  state: Float64Array,
  [time, key, value]: readonly [number, number, number],
): Float64Array {
  const y = new Float64Array(time * value);
  for (let t = 0; t < time; t++)
    for (let i = 0; i < key; i++) {
      const [query, factor] = [q[t * key + i] as number, (k[t * key + i] as number) * key ** -0.5];
      for (let j = 0; j < value; j++) {
        const at = i * value + j;
        const added = factor * (v[t * value + j] as number);
        state[at] = (state[at] as number) * Math.exp(logDecay[t] as number) + added;
        y[t * value + j] = (y[t * value + j] as number) + query * state[at];
      }
    }
  return y;
}

test('gated retention, divided over threads by columns, and none of its bits depends on that', () => {
  for (const shape of [
    [150, 24, 70],
    [64, 7, 129],
    [2, 32, 64],
  ] as const) {
    const [time, key, value] = shape;
    const operands = [
      randomValues(time * key, 1),
      randomValues(time * key, 2),
      randomValues(time * value, 3),
      // Now and then everything is forgotten.
      randomValues(time, 4).map((x, t) => (t % 50 === 41 ? -Infinity : -0.1 * Math.abs(x))),
    ] as const;
    const before = randomValues(key * value, 5);
    const last = Float64Array.from(before);
    const expected = retain(operands, last, shape);
    const results = kernels.map((native) => {
      const [state, y] = [before.slice(), new Float32Array(time * value).fill(NaN)];
      if (native === null) return [];
      native.retention(...operands, state, y, 1, time, 1, 1, key, value);
      assertClose(y, expected, `outputs of ${shape.join()}`);
      assertClose(state, last, `state of ${shape.join()}`);
      return [state, y];
    });
    for (const result of results) assert.equal(result, results[0]);
  }
});

test('they are used where they were compiled, and YOCO_NATIVE turns them off', async () => {
  const before = process.env.YOCO_NATIVE;
  const descriptionWith = async (setting: string): Promise<string> => {
    process.env.YOCO_NATIVE = setting;
    return (await startCpu({ threads: 1 })).description;
  };
  try {
    assert.is((await descriptionWith('')).includes('kernels in C'), !kernels.includes(null));
    assert.not.match(await descriptionWith('off'), 'kernels in C');
    const message = await descriptionWith('perhaps').catch(String);
    assert.match(message, 'YOCO_NATIVE is on or off, not perhaps');
  } finally {
    if (before === undefined) delete process.env.YOCO_NATIVE;
    else process.env.YOCO_NATIVE = before;
    await tf.setBackend('cpu');
  }
});

test.run();
