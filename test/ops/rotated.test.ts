/** Ops that rotate what they read: against the references, and what a kernel of an engine is asked. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KeyValuePages, pagedAttention, rotary, rotatedRetention } from '../../src/ops/index.js';
import { registerFusedKernel } from '../../src/ops/kernels.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { close, compareOp } from './compare.js';
import * as reference from './reference.js';

const test = suite('ops: rotated retention and attention');
test.before(usePlainBackend);

type T3 = tf.Tensor3D;
type T4 = tf.Tensor4D;
type Style = 'interleaved' | 'half';
const frequenciesOf = (width: number): Float64Array =>
  Float64Array.from({ length: width / 2 }, (_, i) => 100 ** (-i / Math.max(1, width / 2)));

interface RetentionShape {
  batch: number;
  time: number;
  heads: number;
  pairs: number;
  valueWidth: number;
  start: number;
  style: Style;
}

function compareRetention(shape: RetentionShape, withState: boolean): void {
  const { batch, time, heads, pairs, valueWidth, start, style } = shape;
  const [keyWidth, frequencies] = [2 * pairs, frequenciesOf(2 * pairs)];
  const options = { normalizer: 3, rotation: { start, frequencies, style } };
  compareOp({
    shapes: [
      [batch, time, heads, keyWidth],
      [batch, time, heads, keyWidth],
      [batch, time, heads, valueWidth],
      [batch, time, heads],
      ...(withState ? [[batch, heads, keyWidth, valueWidth]] : []),
    ],
    op: (q, k, v, gate, state) => {
      // Queries and keys are taken over.
      const [queries, keys] = [tf.clone(q as T4), tf.clone(k as T4)];
      const all = { ...options, state: state as T4 | undefined };
      const result = rotatedRetention(queries, keys, v as T4, gate as T3, all);
      assert.ok(queries.isDisposed && keys.isDisposed, 'let go');
      return [result.output, result.state];
    },
    reference: (...inputs) => {
      type A = reference.Array64;
      const [q, k, v, gate, state] = inputs as [A, A, A, A, A | undefined];
      const turned = (x: A): A => reference.rotary(x, (_, t) => start + t, frequencies, style);
      const decay = { shape: gate.shape, data: gate.data.map((x) => -Math.log1p(Math.exp(-x)) / 3) };
      const result = reference.retention(turned(q), turned(k), v, decay, state);
      return [result.output, result.state];
    },
  });
}

test('retention: values and gradients, both styles, one position and more than a kernel is given', () => {
  const base = { batch: 1, time: 1, heads: 1, pairs: 1, valueWidth: 3, start: 0, style: 'half' } as const;
  for (const withState of [false, true]) {
    compareRetention(base, withState);
    compareRetention({ ...base, time: 17, heads: 2, pairs: 2, start: 40, style: 'interleaved' }, withState);
  }
});

test('retention: values and gradients for random shapes', () => {
  const shapes = fc.record({
    batch: fc.integer({ min: 1, max: 2 }),
    time: fc.integer({ min: 1, max: 9 }),
    heads: fc.integer({ min: 1, max: 3 }),
    pairs: fc.integer({ min: 1, max: 3 }),
    valueWidth: fc.integer({ min: 1, max: 4 }),
    start: fc.integer({ min: 0, max: 1000 }),
    style: fc.constantFrom<Style>('interleaved', 'half'),
  });
  fc.assert(
    fc.property(shapes, fc.boolean(), (shape, withState) => {
      compareRetention(shape, withState);
    }),
    { numRuns: 8, seed: 1 },
  );
});

/** Two pages of random keys and values. */
function filledPages(kvHeads: number, width: number, length: number): KeyValuePages {
  const pages = new KeyValuePages({ batch: 1, kvHeads, headDim: width, pageSize: 8 });
  const rows = (): T4 => tf.randomNormal([1, length, kvHeads, width], 0, 1, 'float32', length);
  pages.append(rows(), rows());
  return pages;
}

test('attention over pages rotates its queries', () => {
  const frequencies = frequenciesOf(6);
  tf.tidy(() => {
    for (const style of ['interleaved', 'half'] as const) {
      for (const queries of [1, 3]) {
        const pages = filledPages(2, 6, 13);
        const q = tf.randomNormal<tf.Rank.R4>([1, queries, 4, 6], 0, 1, 'float32', 5);
        const positions = Int32Array.from({ length: queries }, (_, i) => 40 - 7 * i);
        for (const rotation of [
          { start: 13 - queries, frequencies, style },
          { positions, frequencies, style },
        ]) {
          const found = pagedAttention(q, pages, { window: 9, rotation });
          const expected = pagedAttention(rotary(q, rotation), pages, { window: 9 });
          const plain = pagedAttention(q, pages, { window: 9 });
          close(found, expected.dataSync(), 1e-6, `${style}, ${queries}`);
          assert.ok((tf.max(tf.abs(tf.sub(plain, expected))).dataSync()[0] as number) > 0.01, 'it matters');
        }
        assert.not(q.isDisposed);
        pages.dispose();
      }
    }
  });
});

test('pages take keys that are rotated on the way, across pages', () => {
  const frequencies = frequenciesOf(6);
  tf.tidy(() => {
    const rows = (seed: number): T4 => tf.randomNormal([1, 11, 2, 6], 0, 1, 'float32', seed);
    const [k, v, q] = [rows(1), rows(2), rows(3)];
    for (const style of ['interleaved', 'half'] as const) {
      for (const rotation of [
        { start: 30, frequencies, style },
        { positions: Int32Array.from({ length: 11 }, (_, i) => 50 - i), frequencies, style },
      ]) {
        const [found, expected] = [k, rotary(k, rotation)].map((keys, i) => {
          const pages = new KeyValuePages({ batch: 1, kvHeads: 2, headDim: 6, pageSize: 8 });
          pages.append(keys, v, i === 0 ? rotation : null);
          const out = pagedAttention(q, pages);
          pages.dispose();
          return out;
        }) as [tf.Tensor, tf.Tensor];
        close(found, expected.dataSync(), 1e-6, style);
      }
    }
    assert.not(k.isDisposed);
  });
});

test('kernels are asked for a few consecutive positions and for inference only', async () => {
  const name = 'rotated-test-backend';
  tf.copyRegisteredKernels('cpu', name);
  await tf.setBackend('cpu');
  const backend = tf.backend();
  tf.registerBackend(name, () => backend);
  const asked: unknown[] = [];
  registerFusedKernel(name, 'RotatedRetention', ({ q, v, gate, state }, attrs) => {
    asked.push(attrs, q.shape, gate.shape, state?.shape);
    return [tf.zerosLike(v), tf.zeros([1, 2, 4, 3])];
  });
  registerFusedKernel(name, 'PagedAttention', ({ q }) => {
    asked.push('plain');
    return tf.clone(q as tf.Tensor);
  });
  registerFusedKernel(name, 'RotatedPagedAttention', ({ q }, { rotation }) => {
    asked.push(rotation);
    return tf.zerosLike(q as tf.Tensor);
  });
  registerFusedKernel(name, 'PageWrite', () => []);
  registerFusedKernel(name, 'RotatedPageWrite', (_, attrs) => {
    asked.push(attrs);
    return [];
  });
  await tf.setBackend(name);
  tf.tidy(() => {
    const frequencies = frequenciesOf(4);
    const at = { start: 7, frequencies, style: 'half' } as const;
    const retain = (
      time: number,
      rotation: Parameters<typeof rotatedRetention>[4]['rotation'],
      state?: T4,
    ) => {
      const shape: [number, number, number, number] = [1, time, 2, 4];
      const gate = tf.zeros<tf.Rank.R3>([1, time, 2]);
      const options = { rotation, normalizer: 16, state };
      return rotatedRetention(tf.ones(shape), tf.ones(shape), tf.ones([1, time, 2, 3]), gate, options).output;
    };
    const attrs = { ...at, normalizer: 16 };
    retain(16, at);
    retain(1, at, tf.zeros([1, 2, 4, 3]));
    assert.equal(asked.splice(0), [attrs, [1, 16, 2, 4], [1, 16, 2], undefined, attrs, [1, 1, 2, 4], [1, 1, 2], [1, 2, 4, 3]]); // prettier-ignore
    retain(17, at);
    retain(2, { positions: Int32Array.of(3, 9), frequencies, style: 'half' });
    tf.grad((x: tf.Tensor) => tf.mul(x, retain(1, at)))(tf.ones([1, 1, 2, 3]));
    assert.equal(asked, []);
    const pages = filledPages(2, 4, 5);
    const q = tf.ones<tf.Rank.R4>([1, 2, 2, 4]);
    pagedAttention(q, pages, { rotation: at });
    pagedAttention(q, pages);
    pagedAttention(q, pages, { rotation: { positions: Int32Array.of(3, 4), frequencies, style: 'half' } });
    assert.equal(asked.splice(0), [at, 'plain', 'plain']);
    const rows = (count: number): T4 => tf.ones([1, count, 2, 4]);
    pages.append(rows(5), rows(5), at); // the rest of a page, and the next one
    assert.equal(asked.splice(0), [{ position: 5, start: 0, count: 3, counter: 'keys', rotation: at }, { position: 0, start: 3, count: 2, counter: 'keys', rotation: at }]); // prettier-ignore
    pages.append(rows(2), rows(2), { positions: Int32Array.of(3, 4), frequencies, style: 'half' });
    pages.append(rows(17), rows(17), at);
    assert.equal(asked, []);
    tf.unregisterKernel('RotatedPagedAttention', name);
    const turned = pagedAttention(q, pages, { rotation: at });
    assert.equal(asked.splice(0), ['plain'], 'a kernel that does not rotate');
    assert.equal([...turned.dataSync()], [...rotary(q, at).dataSync()]);
    pages.dispose();
  });
  await tf.setBackend('cpu');
});

test.run();
