import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Random } from '../../src/random.js';
import {
  bootstrap,
  meansByX,
  PLAIN,
  quantile,
  relativeError,
  valueAt,
  WITH_FLOOR,
  type Point,
} from '../../src/sweep/power-law.js';

const test = suite('power laws');

const SIZES = [2e6, 6e6, 2e7, 6e7];
const near = (found: number | null | undefined, expected: number, relative = 1e-6): void => {
  assert.ok(
    typeof found === 'number' && Math.abs(found / expected - 1) < relative,
    `${found} is not ${expected} within ${relative}`,
  );
};

test('the law of Kaplan et al. comes back exactly', () => {
  const [alpha, scale] = [0.076, 8.8e13];
  const law = PLAIN.fit(SIZES.map((n): Point => [n, (scale / n) ** alpha]));
  near(law?.exponent, alpha);
  near(law && law.coefficient ** (1 / law.exponent), scale);
  assert.is(law?.floor, 0);
  assert.is(PLAIN.fit([[1e6, 3]]), null);
});

test('the law with a floor comes back, over many exponents', () => {
  for (const exponent of [0.1, 0.34, 0.5, 1.2]) {
    const coefficient = 1.5 * 2e6 ** exponent;
    const points = SIZES.map((n): Point => [n, 1.69 + coefficient / n ** exponent]);
    const law = WITH_FLOOR.fit(points);
    near(law?.exponent, exponent, 1e-4);
    near(law?.floor, 1.69, 1e-4);
    near(law?.coefficient, coefficient, 2e-3);
    assert.ok(law && relativeError(law, points) < 1e-8);
    near(valueAt(law, 2e6), 1.69 + 1.5);
  }
});

test('a fit that the points do not determine is none', () => {
  assert.is(WITH_FLOOR.fit([[1, 3], [2, 2]]), null); // prettier-ignore
  // Losses that jump once and stay want an exponent without end.
  assert.is(WITH_FLOOR.fit([[1, 3], [10, 2], [100, 2], [1000, 2]]), null); // prettier-ignore
  // Nor is there one for losses that grow.
  assert.is(WITH_FLOOR.fit([[1, 1], [10, 2], [100, 2.5], [1000, 2.7]]), null); // prettier-ignore
  // A pure power law has its floor at 0.
  const law = WITH_FLOOR.fit(SIZES.map((n): Point => [n, (1e13 / n) ** 0.2]));
  near(law?.exponent, 0.2, 1e-3);
  assert.ok((law?.floor ?? 1) < 1e-3, String(law?.floor));
  // A loss that falls ever faster has none: the least floor is 0, and never below.
  assert.is(WITH_FLOOR.fit([[1, 3], [10, 2.9], [100, 2.5], [1000, 1.2]])?.floor, 0); // prettier-ignore
});

test('resamples are those of the seed, and their interval covers the truth', () => {
  const random = new Random('noise');
  const points = SIZES.flatMap((n) =>
    [1, 2, 3].map((): Point => [n, (1e13 / n) ** 0.1 * Math.exp(0.002 * random.normal())]),
  );
  const draw = (seed: string) => bootstrap(PLAIN, points, { draws: 200, random: new Random(seed) });
  assert.equal(draw('a'), draw('a'));
  assert.not.equal(draw('a'), draw('b'));
  const exponents = draw('a')?.map(({ exponent }) => exponent) ?? [];
  const [low, high] = [quantile(exponents, 0.025), quantile(exponents, 0.975)];
  assert.ok(low < 0.1 && 0.1 < high && high - low < 0.01, `${low} ${high}`);
  assert.is(bootstrap(PLAIN, [[1, 1]], { draws: 5, random }), null);
});

test('quantiles and means', () => {
  assert.is(quantile([3, 1, 2], 0.5), 2);
  assert.is(quantile([1, 2], 0.25), 1.25);
  const [first, second] = meansByX([[2, 4], [1, 5], [2, 9]]); // prettier-ignore
  assert.is(first?.[0], 1);
  near(second?.[1], 6);
});

test.run();
