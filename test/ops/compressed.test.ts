/** The coding of keys and values: its bounds, its bytes, and that no result depends on how positions arrive. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../src/errors.js';
import { cacheBytes, CACHE_TYPES, codeWords, GROUP } from '../../src/ops/attention/cache-type.js';
import { decodeGroup, encodeGroup, type Kind } from '../../src/ops/attention/codes.js';
import {
  fromFloat16,
  fromFloat8,
  toBfloat16,
  toFloat16,
  toFloat8,
} from '../../src/ops/attention/small-floats.js';
import { type CacheType, CompressedPages, compressedAttention } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { Inputs } from './kernels/contract.js';

const test = suite('compressed keys and values');
test.before(usePlainBackend);

const COMPRESSED = CACHE_TYPES.filter((type) => type !== 'float32');

/** Rows [GROUP, width] as their codes mean them. */
function coded(type: CacheType, kind: Kind, rows: Float32Array): Float32Array {
  const words = codeWords(type, rows.length / GROUP);
  const scales = kind === 'key' ? words.keyScales : words.valueScales;
  const into = { codes: new Int32Array(GROUP * words.codes), scales: new Int32Array(scales) };
  encodeGroup(type, kind, rows, into);
  const found = new Float32Array(rows.length);
  decodeGroup(type, kind, into, found);
  return found;
}

/** Elements that share a scale with element i. */
function sharing(type: CacheType, kind: Kind, rows: Float32Array, i: number): number[] {
  const width = rows.length / GROUP;
  if (type === 'float8') return [...rows];
  const same = (j: number): boolean =>
    kind === 'key' ? j % width === i % width : Math.floor(j / width) === Math.floor(i / width);
  return [...rows].filter((_, j) => same(j));
}

/** How far an element may be from what was coded: half a step. */
function bound(type: CacheType, kind: Kind, rows: Float32Array, i: number): number {
  const x = Math.abs(rows[i] as number);
  if (type === 'bfloat16') return x * 2 ** -9;
  if (type === 'float16') return Math.max(x * 2 ** -12 * 2, 2 ** -25);
  const all = sharing(type, kind, rows, i);
  const largest = Math.max(...all.map(Math.abs));
  if (type === 'float8') return Math.max(x / 16, largest / 2 ** 17);
  // The scale and the minimum are float16, rounded outwards.
  const step =
    (Math.max(...all) - Math.min(...all) + largest * 2 ** -10 + 2 ** -24) / (type === 'int8' ? 255 : 15);
  return (step * (1 + 2 ** -10) + 2 ** -24) / 2 + largest * 2 ** -22;
}

test('no element is off by more than half a step', () => {
  const shape = fc.record({
    width: fc.constantFrom(8, 24),
    scale: fc.constantFrom(1e-3, 1, 300),
    shift: fc.constantFrom(0, -7, 90),
    seed: fc.nat(),
  });
  fc.assert(
    fc.property(
      shape,
      fc.constantFrom(...COMPRESSED),
      fc.constantFrom<Kind>('key', 'value'),
      (of, type, kind) => {
        const { values } = new Inputs(of.seed).normal([GROUP, of.width], of.scale, of.shift);
        const rows = Float32Array.from(values);
        const found = coded(type, kind, rows);
        rows.forEach((x, i) => {
          const error = Math.abs(x - (found[i] as number));
          if (!(error <= bound(type, kind, rows, i)))
            assert.unreachable(`${type} ${kind}: ${x} became ${found[i]}`);
        });
      },
    ),
    { numRuns: 40 },
  );
});

test('equal elements and zeros stay; what is not a number shows', () => {
  for (const type of COMPRESSED)
    for (const kind of ['key', 'value'] as const) {
      for (const x of [0, 1, -0.5]) {
        assert.equal(
          coded(type, kind, new Float32Array(GROUP * 8).fill(x)),
          new Float32Array(GROUP * 8).fill(x),
        );
      }
      for (const bad of [NaN, Infinity]) {
        const rows = new Float32Array(GROUP * 8).fill(1);
        rows[20] = bad;
        assert.not(Number.isFinite(coded(type, kind, rows)[20]), `${type}: ${bad} is lost`);
      }
    }
});

test('numbers of 16 and 8 bits are rounded to the nearest, and every pattern comes back', () => {
  for (let half = 0; half < 0x7c00; half++) assert.is(toFloat16(fromFloat16(half)), half);
  for (let byte = 0; byte < 0x7f; byte++) assert.is(toFloat8(fromFloat8(byte)), byte);
  assert.is(fromFloat16(toFloat16(1 + 2 ** -11)), 1, 'a tie goes to the even one');
  assert.is(fromFloat16(toFloat16(-2.0001, 'down')), -2.001953125);
  assert.is(fromFloat16(toFloat16(2.0001, 'down')), 2);
  assert.is(fromFloat16(toFloat16(1e6)), Infinity);
  assert.is(fromFloat8(toFloat8(-1e6)), -448);
  assert.is(fromFloat8(toFloat8(17)), 16);
  assert.is(toBfloat16(1 + 2 ** -8), 0x3f80);
});

const SIZES = { batch: 2, kvHeads: 2, headDim: 8 };

function rowsOf(length: number, heads: number): tf.Tensor4D {
  const { values, shape } = new Inputs(length + heads).normal([SIZES.batch, length, heads, SIZES.headDim]);
  return tf.tensor4d(values as Float32Array, shape as [number, number, number, number]);
}

/** What the queries of all positions find when they arrive in these steps. */
function attended(type: CacheType, steps: readonly number[]): Float32Array {
  return tf.tidy(() => {
    const length = steps.reduce((sum, count) => sum + count, 0);
    const [q, k, v] = [rowsOf(length, 4), rowsOf(length, 2), rowsOf(length + 0, 2)];
    const pages = new CompressedPages(type, { ...SIZES, pageSize: 64 });
    let start = 0;
    const parts = steps.map((count) => {
      const part = (x: tf.Tensor4D): tf.Tensor4D => tf.slice(x, [0, start, 0, 0], [-1, count, -1, -1]);
      pages.append(part(k), part(v));
      const out = compressedAttention(part(q), pages);
      start += count;
      return out;
    });
    pages.dispose();
    return tf.concat(parts, 1).dataSync<'float32'>().slice();
  });
}

test('no result depends on how positions are cut into chunks', () => {
  const one = (count: number): number[] => Array.from({ length: count }, () => 1);
  for (const type of COMPRESSED) {
    const whole = attended(type, [150]);
    for (const steps of [
      [64, 64, 22],
      [1, 63, 1, 85],
      [60, ...one(10), 80],
      [127, 2, 21],
    ]) {
      const found = attended(type, steps);
      const error = Math.max(...whole.map((x, i) => Math.abs(x - (found[i] as number))));
      assert.ok(error < 1e-5, `${type}, ${steps.join()}: off by ${error}`);
    }
  }
});

test('forks part, and a marked or recent length can be returned to; no tensor is left', () => {
  for (const type of ['int8', 'float8'] as const) {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const [k, v, q] = [rowsOf(300, 2), rowsOf(300, 2), rowsOf(300, 4)];
      const part = (x: tf.Tensor4D, start: number, count: number): tf.Tensor4D =>
        tf.slice(x, [0, start, 0, 0], [-1, count, -1, -1]);
      const pages = new CompressedPages(type, { ...SIZES, pageSize: 128 });
      const append = (to: CompressedPages, start: number, count: number): void => {
        to.append(part(k, start, count), part(v, start, count));
        to.settle();
      };
      const at = (of: CompressedPages, position: number): Float32Array =>
        compressedAttention(part(q, position, 1), of)
          .dataSync<'float32'>()
          .slice();
      const afresh = (steps: readonly (readonly [number, number])[], position: number): Float32Array => {
        const fresh = new CompressedPages(type, { ...SIZES, pageSize: 128 });
        for (const [start, count] of steps) append(fresh, start, count);
        const found = at(fresh, position);
        fresh.dispose();
        return found;
      };
      append(pages, 0, 100);
      pages.mark();
      append(pages, 100, 120);
      const fork = pages.fork();
      append(fork, 220, 1);
      append(fork, 221, 70);
      assert.equal(at(pages, 219), afresh([[0, 220]], 219));
      assert.equal(at(fork, 290), afresh([[0, 291]], 290));
      assert.is(pages.canRewind(210), true);
      assert.is(pages.canRewind(120), false, 'its group is coded');
      assert.throws(() => { pages.rewind(120); }, /cannot be cut to 120/); // prettier-ignore
      pages.rewind(210);
      append(pages, 250, 1);
      assert.equal(at(pages, 210), afresh([[0, 210], [250, 1]], 210)); // prettier-ignore
      pages.rewind(100);
      append(pages, 30, 70);
      assert.equal(at(pages, 169), afresh([[0, 100], [30, 70]], 169)); // prettier-ignore
      assert.equal(at(fork, 290), afresh([[0, 291]], 290), 'the fork has changed');
      fork.dispose();
      pages.dispose();
    });
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
  }
});

test('bytes are those of the formula', () => {
  for (const type of COMPRESSED) {
    const pages = new CompressedPages(type, { ...SIZES, pageSize: 128 });
    tf.tidy(() => {
      pages.append(rowsOf(256, 2), rowsOf(256, 2));
    });
    pages.settle();
    const { perPosition, recent } = cacheBytes(type, 8, 4, true);
    assert.is(pages.bytes, SIZES.batch * SIZES.kvHeads * (256 * perPosition + recent), type);
    pages.dispose();
  }
});

test('heads of odd widths are refused, with what to do', () => {
  assert.throws(
    () => new CompressedPages('int4', { ...SIZES, headDim: 12 }),
    (error: unknown) => error instanceof UsageError && /multiple of 8, not 12/.test(error.message),
  );
});

test.run();
