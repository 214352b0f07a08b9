import { createHash } from 'node:crypto';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Random } from '../src/random.js';

const test = suite('data/random');

/** xoshiro128** from the published recurrence in BigInt arithmetic, as an independent check. */
function reference(words: readonly number[], count: number): number[] {
  const mask = 0xffffffffn;
  const rotl = (x: bigint, k: bigint): bigint => ((x << k) | (x >> (32n - k))) & mask;
  const s = words.map(BigInt) as [bigint, bigint, bigint, bigint];
  return Array.from({ length: count }, () => {
    const result = (rotl((s[1] * 5n) & mask, 7n) * 9n) & mask;
    const t = (s[1] << 9n) & mask;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 11n);
    return Number(result);
  });
}

test('draws the xoshiro128** sequence', () => {
  const random = new Random(42);
  const digest = createHash('sha256').update('42').digest();
  const words = [0, 4, 8, 12].map((offset) => digest.readUInt32LE(offset));
  const expected = reference(words, 1000);
  assert.equal(
    Array.from({ length: 1000 }, () => random.uint32()),
    expected,
  );
});

test('draws the same numbers on every platform and in every version', () => {
  const random = new Random(1);
  assert.equal([random.uint32(), random.below(1000), random.uniform(), random.normal()], PINNED);
});
const PINNED = [2863164244, 552, 0.05093404144246605, -0.5058749620098891];

test('forks depend on the seed and the label, not on what was drawn', () => {
  const random = new Random(7);
  const before = random.fork('x').uint32();
  random.uniform();
  assert.is(random.fork('x').uint32(), before);
  assert.is.not(random.fork('y').uint32(), before);
  assert.is.not(new Random(8).fork('x').uint32(), before);
});

test('below is unbiased for a range that does not divide 2^32, and covers large ranges', () => {
  const random = new Random(3);
  const draws6 = Array.from({ length: 60000 }, () => random.below(6));
  const counts = [0, 1, 2, 3, 4, 5].map((value) => draws6.filter((draw) => draw === value).length);
  const chiSquare = counts.reduce((sum, count) => sum + (count - 10000) ** 2 / 10000, 0);
  assert.ok(chiSquare < 20, `chi-square ${chiSquare}`);
  const large = 3 * 2 ** 40;
  const draws = Array.from({ length: 200 }, () => random.below(large));
  assert.ok(draws.every((draw) => Number.isInteger(draw) && draw >= 0 && draw < large));
  assert.ok(draws.some((draw) => draw > 2 ** 40));
  assert.throws(() => random.below(0), /positive integer/);
});

test('uniform and normal have the right moments', () => {
  const random = new Random(5);
  const n = 100000;
  const uniform = random.fillUniform(new Float32Array(n));
  const normal = random.fillNormal(new Float32Array(n), 2, 3);
  const mean = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / n;
  assert.ok(Math.abs(mean(uniform) - 0.5) < 0.005);
  assert.ok(Math.abs(mean(normal) - 2) < 0.05);
  const variance = normal.reduce((sum, value) => sum + (value - 2) ** 2, 0) / n;
  const kurtosis = normal.reduce((sum, value) => sum + ((value - 2) / 3) ** 4, 0) / n;
  assert.ok(Math.abs(variance - 9) < 0.2, `variance ${variance}`);
  assert.ok(Math.abs(kurtosis - 3) < 0.15, `kurtosis ${kurtosis}`);
});

test('shuffle permutes and reaches every order', () => {
  const random = new Random(9);
  const seen = new Set<string>();
  for (let i = 0; i < 200; i++) seen.add(random.shuffle([1, 2, 3]).join(''));
  assert.is(seen.size, 6);
  assert.equal([...random.shuffle(Int32Array.from([1, 2, 3, 4]))].sort(), [1, 2, 3, 4]);
});

test.run();
