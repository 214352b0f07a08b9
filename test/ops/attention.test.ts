import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Random } from '../../src/random.js';
import { causalAttention, KeyValuePages, pagedAttention } from '../../src/ops/index.js';
import { registerFusedKernel } from '../../src/ops/kernels.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { close, compareOp, withLimits } from './compare.js';
import * as reference from './reference.js';

const test = suite('ops: attention');
test.before(usePlainBackend);

interface Shape {
  batch: number;
  queries: number;
  keys: number;
  heads: number;
  kvHeads: number;
  width: number;
  window?: number;
  scale?: number;
}

function compareAttention(shape: Shape): void {
  const { batch, queries, keys, heads, kvHeads, width, window, scale } = shape;
  compareOp({
    shapes: [
      [batch, queries, heads, width],
      [batch, keys, kvHeads, width],
      [batch, keys, kvHeads, width],
    ],
    op: (q, k, v) => [
      causalAttention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, { window, scale }),
    ],
    reference: (...qkv) => [
      reference.attention(...(qkv as [reference.Array64, reference.Array64, reference.Array64]), {
        window,
        scale,
      }),
    ],
  });
}

test('values and gradients for random shapes', () => {
  const shapes = fc.record({
    batch: fc.integer({ min: 1, max: 2 }),
    queries: fc.integer({ min: 1, max: 9 }),
    before: fc.integer({ min: 0, max: 9 }),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 3 }),
    width: fc.integer({ min: 1, max: 5 }),
    window: fc.option(fc.integer({ min: 1, max: 12 }), { nil: undefined }),
  });
  fc.assert(
    fc.property(shapes, ({ before, group, ...shape }) => {
      compareAttention({ ...shape, keys: shape.queries + before, heads: shape.kvHeads * group });
    }),
    { numRuns: 12, seed: 1 },
  );
});

function random(shape: [number, number, number, number], seed: number): tf.Tensor4D {
  const values = new Random(seed).fillNormal(new Float32Array(reference.size(shape)));
  return tf.tensor(values, shape);
}

/** Attention with all scores at once, by plain tfjs ops that differentiate themselves. */
function plainAttention(window: number | undefined) {
  return (q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D): tf.Tensor => {
    const [queries, keys, values] = [q, k, v].map((x) => tf.transpose(x, [0, 2, 1, 3])) as [
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
    ];
    const [rows, columns] = [q.shape[1], k.shape[1]];
    const hidden = tf.buffer([rows, columns]);
    for (let t = 0; t < rows; t++) {
      const own = columns - rows + t;
      for (let j = 0; j < columns; j++)
        if (j > own || j <= own - (window ?? Infinity)) hidden.set(-1e9, t, j);
    }
    const scores = tf.add(
      tf.mul(tf.matMul(queries, keys, false, true), q.shape[3] ** -0.5),
      hidden.toTensor(),
    );
    return tf.transpose(tf.matMul(tf.softmax(scores), values), [0, 2, 1, 3]);
  };
}

test('more keys and queries than a block holds', () => {
  // 2 heads against 8 keys leave room for 16 queries, the fewest that a block takes.
  const [queries, keys, heads] = [35, 50, 2];
  withLimits({ scoreElements: 1, keyBlock: 8 }, () => {
    const inputs = [
      random([1, queries, heads, 2], 1),
      random([1, keys, heads, 2], 2),
      random([1, keys, heads, 2], 3),
    ];
    const weights = random([1, queries, heads, 2], 4);
    for (const window of [undefined, 5, 30]) {
      const run = (f: (q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D) => tf.Tensor): tf.Tensor[] => {
        const objective = (...[q, k, v]: tf.Tensor[]): tf.Tensor =>
          tf.sum(tf.mul(f(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D), weights));
        const { value, grads } = tf.valueAndGrads(objective)(inputs);
        return [value, ...grads];
      };
      const expected = run(plainAttention(window));
      for (const [i, found] of run((q, k, v) => causalAttention(q, k, v, { window })).entries()) {
        close(found, (expected[i] as tf.Tensor).dataSync(), 1e-4, `result ${i}, window ${String(window)}`);
      }
    }
  });
});

function fillPages(pages: KeyValuePages, k: tf.Tensor4D, v: tf.Tensor4D, lengths: number[]): void {
  const [batch, , heads, width] = k.shape;
  let start = 0;
  for (const length of lengths) {
    const take = (x: tf.Tensor4D): tf.Tensor4D =>
      tf.slice(x, [0, start, 0, 0], [batch, length, heads, width]);
    pages.append(take(k), take(v));
    start += length;
  }
}

function comparePaged(): void {
  const before = tf.memory().numTensors;
  for (const { queries, lengths, window } of [
    { queries: 1, lengths: [1], window: null },
    { queries: 3, lengths: [4, 4, 3], window: null },
    { queries: 11, lengths: [3, 1, 7], window: null },
    { queries: 5, lengths: [8, 5], window: 2 },
    { queries: 6, lengths: [13, 1], window: 6 },
  ]) {
    const keys = lengths.reduce((sum, n) => sum + n, 0);
    const [q, k, v] = [random([2, queries, 4, 6], 1), random([2, keys, 2, 6], 2), random([2, keys, 2, 6], 3)];
    const pages = new KeyValuePages({ batch: 2, kvHeads: 2, headDim: 6, pageSize: 4 });
    tf.tidy(() => {
      fillPages(pages, k, v, lengths);
      const expected = causalAttention(q, k, v, { window });
      close(
        pagedAttention(q, pages, { window }),
        expected.dataSync(),
        1e-5,
        `paged, lengths ${lengths.join()}`,
      );
    });
    assert.is(pages.length, keys);
    assert.is(pages.bytes, Math.ceil(keys / 4) * 2 * 2 * 2 * 4 * 6 * 4);
    pages.dispose();
    tf.dispose([q, k, v]);
  }
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
}

test('paged attention is attention over what was appended', comparePaged);

test('a fork shares full pages and leaves its origin alone', () => {
  const before = tf.memory().numTensors;
  const [q, k, v] = [random([1, 1, 2, 4], 1), random([1, 9, 1, 4], 2), random([1, 9, 1, 4], 3)];
  const pages = new KeyValuePages({ batch: 1, kvHeads: 1, headDim: 4, pageSize: 4 });
  tf.tidy(() => {
    fillPages(pages, k, v, [6]);
    const buffers = tf.memory().numDataBuffers;
    const fork = pages.fork();
    assert.is(tf.memory().numDataBuffers, buffers, 'nothing is copied by the fork itself');
    fillPages(fork, tf.slice(k, [0, 6, 0, 0]), tf.slice(v, [0, 6, 0, 0]), [3]);
    const own = causalAttention(
      q,
      tf.slice(k, [0, 0, 0, 0], [1, 6, 1, 4]),
      tf.slice(v, [0, 0, 0, 0], [1, 6, 1, 4]),
    );
    close(pagedAttention(q, pages), own.dataSync(), 1e-6, 'origin');
    close(pagedAttention(q, fork), causalAttention(q, k, v).dataSync(), 1e-6, 'fork');
    fork.dispose();
    close(pagedAttention(q, pages), own.dataSync(), 1e-6, 'origin after the fork is gone');
  });
  pages.dispose();
  tf.dispose([q, k, v]);
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
});

test('an in-place PageWrite kernel is used, and forks stay independent', () => {
  if (tf.getBackend() !== 'cpu') return; // the kernel below is the plain backend's
  const writes: number[] = [];
  registerFusedKernel('cpu', 'PageWrite', ({ keyPage, valuePage, keys, values }, attrs) => {
    const { position, start, count } = attrs;
    const [batch, heads, size, width] = keyPage.shape as [number, number, number, number];
    const time = keys.shape[1] as number;
    for (const [page, rows] of [
      [keyPage, keys],
      [valuePage, values],
    ] as const) {
      const [target, source] = [page.dataSync(), rows.dataSync()];
      for (let b = 0; b < batch; b++) {
        for (let h = 0; h < heads; h++) {
          for (let t = 0; t < count; t++) {
            const from = ((b * time + start + t) * heads + h) * width;
            target.set(source.subarray(from, from + width), ((b * heads + h) * size + position + t) * width);
          }
        }
      }
    }
    writes.push(count);
    return [];
  });
  try {
    comparePaged();
    assert.ok(writes.length > 0);
    const pages = new KeyValuePages({ batch: 1, kvHeads: 1, headDim: 2, pageSize: 4 });
    const rows = random([1, 1, 1, 2], 5);
    pages.append(rows, rows);
    const fork = pages.fork();
    fork.append(rows, rows);
    const untouched = pages.pages[0]?.key.dataSync().subarray(2, 4);
    assert.equal([...(untouched ?? [])], [0, 0]);
    tf.dispose(rows);
    pages.dispose();
    fork.dispose();
  } finally {
    tf.unregisterKernel('PageWrite', 'cpu');
  }
});

test('pages fit a known maximum and refuse more', () => {
  const pages = new KeyValuePages({ batch: 1, kvHeads: 1, headDim: 2, maxTokens: 20 });
  assert.is(pages.pageSize, 32);
  const rows = random([1, 21, 1, 2], 5);
  assert.throws(() => {
    pages.append(rows, rows);
  }, /holds 20 tokens/);
  tf.dispose(rows);
  pages.dispose();
});

test.run();
