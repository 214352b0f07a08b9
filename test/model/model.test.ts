/** The models against a float64 reference, and their three routes against each other. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Random } from '../../src/random.js';
import {
  createConfig,
  createModel,
  valueAndGradients,
  type ConfigInput,
  type LanguageModel,
  type ValueAndGradients,
} from '../../src/model/index.js';
import * as tf from '../../src/tf.js';
import { close } from '../ops/compare.js';
import { usePlainBackend } from '../plain-backend.js';
import { CASES, ids, randomTokens, routeTolerance, SHAPE, testModel } from './cases.js';
import * as reference from './reference.js';

const test = suite('model: routes and reference');
test.before(usePlainBackend);

function referenceWeights(model: LanguageModel): Map<string, { shape: number[]; data: Float64Array }> {
  return new Map(
    [...model.parameters].map(([name, variable]) => [
      name,
      { shape: variable.shape, data: Float64Array.from(variable.dataSync()) },
    ]),
  );
}

for (const [name, input] of Object.entries(CASES)) {
  test(`${name}: logits, loss and gradients are those of the reference`, () => {
    const before = tf.memory().numTensors;
    const model = testModel(input);
    const weights = referenceWeights(model);
    const [tokens, targets] = [randomTokens(2, 9, 1), randomTokens(2, 9, 2)];
    tf.tidy(() => {
      close(model.forward(ids(tokens)), reference.logits(model.config, weights, tokens).data, 1e-5, 'logits');
      const differentiate = (recompute: boolean): ValueAndGradients =>
        valueAndGradients(model, () => tf.mean(model.loss(ids(tokens), ids(targets), { recompute })));
      const { value, gradients } = differentiate(false);
      const loss = (): number => reference.meanLoss(model.config, weights, tokens, targets);
      close(value, [loss()], 1e-5, 'loss');
      compareGradients(gradients, weights, loss);
      for (const [parameter, gradient] of differentiate(true).gradients) {
        close(gradient, (gradients.get(parameter) as tf.Tensor).dataSync(), 1e-6, `recomputed ${parameter}`);
      }
    });
    model.dispose();
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
  });
}

/** Every parameter along a random direction, by central differences of the reference. */
function compareGradients(
  gradients: ReadonlyMap<string, tf.Tensor>,
  weights: ReturnType<typeof referenceWeights>,
  loss: () => number,
): void {
  const random = new Random('directions');
  for (const [name, { data }] of weights) {
    const gradient = (gradients.get(name) as tf.Tensor).dataSync<'float32'>();
    const direction = random.fillNormal(new Float32Array(data.length), 0, data.length ** -0.5);
    const move = (step: number): void => {
      direction.forEach((value, i) => (data[i] = (data[i] as number) + step * value));
    };
    move(1e-5);
    const up = loss();
    move(-2e-5);
    const slope = (up - loss()) / 2e-5;
    move(1e-5);
    const found = gradient.reduce((sum, value, i) => sum + value * (direction[i] as number), 0);
    const scale = Math.max(1e-3, Math.max(...gradient.map(Math.abs)) / Math.sqrt(data.length));
    assert.ok(Math.abs(found - slope) <= 1e-3 * scale, `${name}: ${found} against ${slope}`);
  }
}

/** Cuts of 0..length into chunks. */
const chunkings = (length: number): fc.Arbitrary<number[]> =>
  fc.uniqueArray(fc.integer({ min: 1, max: length - 1 }), { maxLength: 6 }).map((cuts) => {
    const sorted = [0, ...cuts.sort((a, b) => a - b), length];
    return sorted.slice(1).map((end, i) => end - (sorted[i] as number));
  });

for (const [name, input] of Object.entries(CASES)) {
  test(`${name}: any chunking of prefill and decode gives the logits of forward`, () => {
    const length = 17;
    const model = testModel(input);
    const tokens = randomTokens(2, length);
    const before = tf.memory().numTensors;
    const full = tf.tidy(() => model.forward(ids(tokens)));
    fc.assert(
      fc.property(chunkings(length), fc.boolean(), (chunks, earlyExit) => {
        const cache = model.createCache({ batch: 2, maxTokens: 64 });
        tf.tidy(() => {
          let start = 0;
          for (const count of chunks) {
            const part = ids(tokens.map((row) => row.slice(start, start + count)));
            start += count;
            const logits =
              count === 1
                ? model.decode(tf.reshape(part, [2]), cache)
                : model.extend(part, cache, { logits: 'last', earlyExit });
            const expected = tf.reshape(tf.slice(full, [0, start - 1, 0], [2, 1, -1]), [2, SHAPE.vocabSize]);
            close(
              logits,
              expected.dataSync(),
              routeTolerance(name),
              `logits at ${start - 1}, chunks ${chunks.join()}`,
            );
          }
        });
        assert.is(cache.length, length);
        cache.dispose();
      }),
      { numRuns: 6, seed: 1 },
    );
    full.dispose();
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
    model.dispose();
  });

  test(`${name}: extend gives all logits or none, prefill reports progress, forks part ways`, () => {
    const model = testModel(input);
    const before = tf.memory().numTensors;
    const tokens = randomTokens(1, 9);
    const cache = model.createCache({ maxTokens: 32 });
    tf.tidy(() => {
      const full = model.forward(ids(tokens));
      const at = (position: number): Float32Array | Int32Array | Uint8Array =>
        tf.slice(full, [0, position, 0], [1, 1, -1]).dataSync();
      const part = (start: number, end: number): tf.Tensor2D =>
        ids(tokens.map((row) => row.slice(start, end)));
      const progress: number[] = [];
      const logits = model.prefill(part(0, 5), cache, { chunkSize: 2, onProgress: (n) => progress.push(n) });
      close(logits, at(4), routeTolerance(name), 'prefill');
      assert.equal(progress, [2, 4, 5]);
      const fork = cache.fork();
      assert.is(model.extend(part(5, 6), fork, { logits: 'none' }), null);
      const rest = model.extend(part(6, 9), fork, { logits: 'all' });
      close(rest, tf.slice(full, [0, 6, 0], [1, 3, -1]).dataSync(), routeTolerance(name), 'fork');
      close(
        model.decode(tf.tensor1d([tokens[0]?.[5] as number], 'int32'), cache),
        at(5),
        routeTolerance(name),
        'origin',
      );
      assert.equal([fork.length, cache.length], [9, 6]);
      fork.dispose();
    });
    cache.dispose();
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
    model.dispose();
  });

  test(`${name}: the loss at some positions is the loss at all of them, gradients included`, () => {
    const model = testModel(input);
    const [tokens, targets] = [randomTokens(2, 8, 3), randomTokens(2, 8, 4)];
    const positions = [
      [0, 3, 7],
      [2, 3, 4],
    ];
    const chosen = targets.map((row, b) => (positions[b] as number[]).map((p) => row[p] as number));
    const mask = targets.map((row, b) => row.map((_, t) => (positions[b]?.includes(t) ? 1 : 0)));
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const some = valueAndGradients(model, () =>
        tf.sum(model.loss(ids(tokens), ids(chosen), { positions })),
      );
      const all = valueAndGradients(model, () =>
        tf.sum(tf.mul(model.loss(ids(tokens), ids(targets)), tf.tensor2d(mask))),
      );
      close(some.value, all.value.dataSync(), 1e-5, 'loss');
      for (const [parameter, gradient] of some.gradients) {
        close(gradient, (all.gradients.get(parameter) as tf.Tensor).dataSync(), 1e-5, parameter);
      }
    });
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
    model.dispose();
  });
}

test('states and windows keep their size, and the transformer with a window too', () => {
  for (const name of ['gated retention', 'sliding window', 'windowed transformer'] as const) {
    const model = testModel(CASES[name] as ConfigInput);
    const cache = model.createCache({ maxTokens: 64 });
    const sizes: number[] = [];
    tf.tidy(() => {
      for (let n = 0; n < 4; n++) {
        model.extend(ids(randomTokens(1, 6)), cache, { logits: 'none' });
        sizes.push(cache.bytes().state);
      }
    });
    assert.ok((sizes[0] as number) > 0);
    assert.equal(new Set(sizes).size, 1, `${name}: ${sizes.join()}`);
    cache.dispose();
    model.dispose();
  }
});

test('equal seeds give equal weights, other seeds others', () => {
  const config = createConfig(CASES['gated retention'] as ConfigInput);
  const [a, b, c] = [
    createModel(config, { seed: 1 }),
    createModel(config, { seed: 1 }),
    createModel(config, { seed: 2 }),
  ];
  const first = (model: LanguageModel): number[] => [
    ...(model.parameters.get('self_decoder.layers.0.mixer.q_proj.weight') as tf.Tensor).dataSync(),
  ];
  assert.equal(first(a), first(b));
  assert.not.equal(first(a), first(c));
  for (const model of [a, b, c]) model.dispose();
});

test('initial weights have the official spread', () => {
  const config = createConfig({ ...SHAPE, dim: 64, heads: 4, selfHeads: 2, hiddenDim: 96, vocabSize: 200 });
  for (const weights of ['random', 'repeated'] as const) {
    const model = createModel(config, { seed: 1, weights });
    const spread = (name: string): [number, number] => {
      const values = Float32Array.from((model.parameters.get(name) as tf.Tensor).dataSync());
      const square = values.reduce((sum, value) => sum + value * value, 0) / values.length;
      return [Math.max(...values.map(Math.abs)), Math.sqrt(square)];
    };
    const near = (found: number, expected: number, what: string): void => {
      assert.ok(Math.abs(found / expected - 1) < 0.05, `${what}: ${found} against ${expected}`);
    };
    const uniform = (name: string, bound: number): void => {
      const [largest, deviation] = spread(name);
      assert.ok(largest <= bound, name);
      near(deviation, bound / Math.sqrt(3), name);
    };
    uniform('self_decoder.layers.0.mixer.k_proj.weight', 2 ** -2.5 * Math.sqrt(6 / 128));
    uniform('self_decoder.layers.1.mixer.out_proj.weight', 0.5 * Math.sqrt(6 / 128));
    uniform('cross_decoder.layers.0.ffn.fc2.weight', 96 ** -0.5);
    uniform('output_projection.weight', 64 ** -0.5);
    near(spread('embed_tokens.weight')[1], 64 ** -0.5, 'embed_tokens.weight');
    assert.equal(spread('layer_norm.weight'), [1, 1]);
    model.dispose();
  }
});

test('a large parameter repeats a million draws, the first of those of random weights', () => {
  const config = createConfig({ ...SHAPE, dim: 128, layers: 2, vocabSize: 8000 });
  const [random, repeated] = (['random', 'repeated'] as const).map((weights) => {
    const model = createModel(config, { seed: 1, weights });
    const values = Float32Array.from((model.parameters.get('embed_tokens.weight') as tf.Tensor).dataSync());
    model.dispose();
    return values;
  }) as [Float32Array, Float32Array];
  const draws = 1_000_003;
  assert.is(repeated.length, 128 * 8000);
  assert.equal(repeated.subarray(0, draws), random.subarray(0, draws));
  assert.equal(repeated.subarray(draws), random.subarray(0, 128 * 8000 - draws));
});

test('no tokens are refused with a clear line', () => {
  const model = testModel(CASES.transformer as ConfigInput);
  for (const shape of [
    [1, 0],
    [0, 4],
  ] as const) {
    const none = tf.zeros<tf.Rank.R2>([...shape], 'int32');
    const refused = (error: unknown): boolean =>
      error instanceof RangeError && error.message.includes(`found tokens of shape [${shape.join(', ')}]`);
    assert.throws(() => model.forward(none), refused);
    assert.throws(() => model.loss(none, none), refused);
    none.dispose();
  }
  model.dispose();
});

test('wrong values, caches and batches are refused with a clear line', () => {
  const model = testModel(CASES['gated retention'] as ConfigInput);
  const other = testModel(CASES.transformer as ConfigInput);
  const cache = other.createCache({ batch: 2, maxTokens: 16 });
  assert.throws(() => {
    model.load('nonsense', new Float32Array(1));
  }, /no parameter 'nonsense'/);
  assert.throws(() => {
    model.load('layer_norm.weight', new Float32Array(3));
  }, /'layer_norm.weight' has shape \[16\], 16 values, but 3 were given/);
  tf.tidy(() => {
    assert.throws(() => model.decode(tf.tensor1d([1, 2], 'int32'), cache), /another configuration/);
    assert.throws(() => other.decode(tf.tensor1d([1], 'int32'), cache), /2 sequences, but tokens have 1/);
  });
  cache.dispose();
  model.dispose();
  other.dispose();
});

test.run();
