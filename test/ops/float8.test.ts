/** Rounding of rows to float8, on the plain backend and in C, against an independent definition in float64. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Random } from '../../src/random.js';
import { startCpu } from '../../src/engines/cpu/index.js';
import { loadNative } from '../../src/engines/cpu/native/library.js';
import { float8Bytes, suitsFloat8 } from '../../src/ops/linear/compute-type.js';
import { keepInFloat8, roundedToFloat8, roundRows } from '../../src/ops/linear/float8.js';
import { linear, linearGroup, linearSwiglu } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend, whyNotCpu } from '../plain-backend.js';
import { skipBecause } from '../skip.js';

const test = suite('ops: rows in float8');
test.before.each(usePlainBackend);
test.after(usePlainBackend);

/** The magnitudes of e4m3, by code: OCP 8-bit floating point, section 5. */
const MAGNITUDES = Array.from({ length: 127 }, (_, code) => {
  const [exponent, mantissa] = [code >> 3, code & 7];
  return exponent === 0 ? (mantissa / 8) * 2 ** -6 : (1 + mantissa / 8) * 2 ** (exponent - 7);
});
const LARGEST = 448;

/** The nearest code, of two that are as near the even one. */
function nearest(x: number): number {
  const distances = MAGNITUDES.map((magnitude) => Math.abs(magnitude - Math.abs(x)));
  const least = Math.min(...distances);
  const codes = distances.flatMap((distance, code) => (distance === least ? [code] : []));
  const [code = 0] = codes.filter((code) => codes.length === 1 || code % 2 === 0);
  return Math.sign(x) * (MAGNITUDES[code] ?? NaN);
}

function roundedRow(row: readonly number[]): number[] {
  if (!row.every(Number.isFinite)) return row.map(() => NaN);
  const largest = Math.max(...row.map(Math.abs));
  let exponent = -100;
  while (largest > LARGEST * 2 ** exponent) exponent++;
  return row.map((x) => Math.fround(nearest(x / 2 ** exponent) * 2 ** exponent));
}

const word = new Float32Array(1);
const wordBits = new Int32Array(word.buffer);
/** The next float32 after a positive one, or before it. */
function neighbour(x: number, step: 1 | -1): number {
  word[0] = x;
  wordBits[0] = (wordBits[0] as number) + step;
  return word[0];
}

const middles = MAGNITUDES.slice(1).map((magnitude, i) => (magnitude + (MAGNITUDES[i] as number)) / 2);
const signed = (values: readonly number[]): number[] => values.flatMap((x) => [x, -x]);
const scaled = (row: readonly number[], exponent: number): number[] => row.map((x) => x * 2 ** exponent);
const normal = (width: number, scale: number): number[] => {
  const random = new Random(`row of ${width}`);
  return Array.from({ length: width }, () => Math.fround(random.normal() * scale));
};
const CODES = signed(MAGNITUDES);
/** Rows by what they show. The largest code of each row of codes fixes its factor. */
const ROWS: Readonly<Record<string, number[]>> = {
  codes: CODES,
  'small codes': scaled(CODES, -100),
  'large codes': scaled(CODES, 119),
  ties: [LARGEST, ...signed(middles)],
  'beside ties': [LARGEST, ...signed(middles.flatMap((x) => [neighbour(x, 1), neighbour(x, -1)]))],
  'just above a factor': [neighbour(LARGEST * 2 ** -9, 1), ...scaled(CODES.slice(0, 60), -9)],
  'just below a power of two': [neighbour(2, -1), 1.9, 0.1],
  zeros: [0, -0, 0],
  'below every factor': [2 ** -149, -(2 ** -126), 3 * 2 ** -110, 2 ** -109, 2 ** -110, 1.5 * 2 ** -109],
  'largest that stays finite': [1.74 * 2 ** 127, -1e38, 1e20, 1e-20],
  'beyond float32 when rounded': [neighbour(Infinity, -1), 1],
  'far apart': [1, 1e-3, 1e-6, 1e-30],
  'one element': [3.3],
  'odd width': normal(37, 3),
  wide: normal(1003, 1e-3),
  'a NaN': [1, NaN, 2],
  infinite: [1, -Infinity, 2],
};

/** Holds `round` to the definition, each row between two others. */
function expectRounded(round: (x: Float32Array, width: number) => ArrayLike<number>): void {
  for (const [name, row] of Object.entries(ROWS)) {
    const around = row.map((_, i) => i + 0.3);
    const found = Array.from(round(Float32Array.from([...around, ...row, ...around]), row.length));
    const expected = [...roundedRow(around), ...roundedRow(row), ...roundedRow(around)];
    const wrong = expected.findIndex(
      (x, i) => !(x === found[i] || (Number.isNaN(x) && Number.isNaN(found[i]))),
    );
    assert.is(wrong, -1, `${name}: ${found[wrong]} for ${expected[wrong]} at ${wrong}`);
    const isFinite = expected.every(Number.isFinite);
    if (isFinite)
      assert.equal(Array.from(round(Float32Array.from(found), row.length)), found, `${name}, twice`);
  }
}

test('rows are rounded to the nearest codes of the least factor', () => {
  expectRounded(roundRows);
});

const missing =
  whyNotCpu() ?? (loadNative(1).native === null ? 'no C compiler when the package was installed' : null);
const IN_C = 'the kernel in C rounds to the same';
if (missing !== null) skipBecause(missing, test, IN_C);
else
  test(IN_C, async () => {
    await startCpu({ threads: 2 }, { native: true });
    expectRounded((values, width) =>
      tf.tidy(() => roundedToFloat8(tf.tensor(values, [values.length / width, width])).dataSync()),
    );
    // Enough rows that threads divide them.
    const values = Float32Array.from(normal(61 * 521, 2));
    const found = tf.tidy(() => roundedToFloat8(tf.tensor(values.slice(), [61, 521])).dataSync<'float32'>());
    const expected = roundRows(values, 521);
    const wrong = found.findIndex((x, i) => x !== expected[i]);
    assert.is(wrong, -1, `${found[wrong]} for ${expected[wrong]} at ${wrong}`);
  });

test('weights suit where both extents are multiples of 16', () => {
  const suits = [[16, 32], [48, 16]].map((shape) => suitsFloat8({ shape })); // prettier-ignore
  assert.equal(suits, [true, true]);
  for (const shape of [[16], [16, 8], [20, 16], [0, 16], [16, 1, 16]]) assert.not(suitsFloat8({ shape }));
  assert.is(float8Bytes([16, 32]), 16 * 32 + 4 * 16);
  const weight = tf.variable(tf.zeros([16, 20]));
  assert.throws(() => {
    keepInFloat8(weight);
  }, /a weight of shape \[16, 20\] cannot be kept in float8/);
  weight.dispose();
});

test('products with such weights round the rows of both, and others stay as they are', () => {
  const tensor = (shape: number[], seed: string): tf.Tensor => {
    const random = new Random(seed);
    return tf.tensor(random.fillNormal(new Float32Array(tf.util.sizeFromShape(shape)), 0, 1), shape);
  };
  const rows = (x: tf.Tensor): number[][] => {
    const width = x.shape.at(-1) as number;
    const values = [...x.dataSync()];
    return Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));
  };
  /** In float64. */
  const product = (x: number[][], weight: number[][]): number[][] =>
    x.map((row) => weight.map((other) => row.reduce((sum, a, i) => sum + a * (other[i] as number), 0)));
  const close = (found: tf.Tensor, expected: number[][], what: string): void => {
    const values = found.dataSync();
    expected.flat().forEach((x, i) => {
      assert.ok(Math.abs(x - (values[i] as number)) < 1e-4, `${what}: ${values[i] as number} for ${x}`);
    });
  };
  const before = tf.memory().numTensors;
  const names = ['a', 'b', 'c'];
  const weights = names.map((seed, i) => tf.tidy(() => tf.variable(tensor([16 * (i + 1), 32], seed))));
  const exact = weights.map(rows);
  const [a, b, c] = weights as [tf.Variable, tf.Variable, tf.Variable];
  keepInFloat8(a);
  keepInFloat8(c);
  tf.tidy(() => {
    const [x, residual] = [tensor([2, 3, 32], 'x'), tensor([2, 3, 16], 'residual')];
    const float8 = (matrix: number[][]): number[][] => matrix.map(roundedRow);
    const [ofA, ofB, ofC] = exact as [number[][], number[][], number[][]];
    const inA = product(float8(rows(x)), float8(ofA));
    const inC = product(float8(rows(x)), float8(ofC));
    close(linear(x, a), inA, 'linear');
    const sums = inA.map((row, i) => row.map((y, j) => y + (rows(residual)[i]?.[j] as number)));
    close(linear(x, a, residual), sums, 'residual');
    const group = linearGroup(x, [a, b, c]);
    [inA, product(rows(x), ofB), inC].forEach((expected, i) => {
      const found = group[i] as tf.Tensor;
      assert.equal(found.shape, [2, 3, 16 * (i + 1)]);
      close(found, expected, `group ${i}`);
    });
    const gate = tf.variable(tf.slice(c, 0, 16));
    keepInFloat8(gate);
    const silu = (y: number): number => y / (1 + Math.exp(-y));
    const hidden = inA.map((row, i) => row.map((y, j) => silu(y) * (inC[i]?.[j] as number)));
    const found = rows(linearSwiglu(x, a, gate));
    for (const [i, row] of found.entries())
      assert.equal(row, roundedRow(row), `row ${i} of swiglu is rounded`);
    // A sum that is off in its last bit may be rounded to the code beside.
    const step = Math.max(...hidden.flat().map(Math.abs)) / 8;
    hidden.flat().forEach((y, i) => {
      const off = Math.abs(y - (found.flat()[i] as number));
      assert.ok(off < Math.max(step / 256, Math.abs(y) / 8), `swiglu: off by ${off} at ${y}`);
    });
    gate.dispose();
    assert.throws(() => tf.grad((x) => linear(x, a))(x), /weights that are kept in float8 have no gradient/);
    tf.grad((x) => linear(x, b))(x);
  });
  for (const weight of weights) weight.dispose();
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
});

test.run();
