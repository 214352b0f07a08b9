/** Models whose weights are kept in float8: which weights, what reads them, and that all routes agree. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  createConfig,
  createModel,
  type LanguageModel,
  type PackedSequence,
  valueAndGradients,
} from '../../src/model/index.js';
import { weightDefaults } from '../../src/ops/index.js';
import { registerFusedKernel } from '../../src/ops/kernels.js';
import { roundedToFloat8, roundRows } from '../../src/ops/linear/float8.js';
import { linear, linearGroup } from '../../src/ops/linear/linear.js';
import { linearSwiglu } from '../../src/ops/swiglu/swiglu.js';
import * as tf from '../../src/tf.js';
import { close } from '../ops/compare.js';
import { onPlainBackend, usePlainBackend } from '../plain-backend.js';
import { CASES, ids, randomTokens, routeTolerance, SHAPE, testModel } from './cases.js';

const test = suite('model: weights in float8');
test.before(usePlainBackend);

/** The extents of nearly all matrices are then multiples of 16. */
const WIDE = { hiddenDim: 32 };
const LENGTH = 17;
/** Counts of tokens that a cache takes at a time. */
const CHUNKS = [3, 1, 5, 1, 1, 1, 2, 3];

type Case = Parameters<typeof testModel>[0];

/** @param compute what the engine was started with */
function made<T>(compute: 'float8' | null, make: () => T): T {
  const usual = weightDefaults.compute;
  weightDefaults.compute = compute;
  try {
    return make();
  } finally {
    weightDefaults.compute = usual;
  }
}

const inFloat8 = (input: Case): LanguageModel => made('float8', () => testModel({ ...input, ...WIDE }));

/** Logits of the last tokens of all chunks, and of the sequence at once. */
function logitsOf(model: LanguageModel, tokens: number[]): { chunks: Float32Array[]; whole: Float32Array } {
  const cache = model.createCache({ maxTokens: 64 });
  let at = 0;
  const chunks = CHUNKS.map((count) => {
    const part = tokens.slice(at, (at += count));
    return tf.tidy(() =>
      count === 1
        ? model.decode(tf.tensor1d(part, 'int32'), cache).dataSync<'float32'>()
        : model.extend(ids([part]), cache, { logits: 'last' }).dataSync<'float32'>(),
    );
  });
  cache.dispose();
  const whole = tf.tidy(() => model.forward(ids([tokens])).dataSync<'float32'>());
  return { chunks, whole };
}

const rowAt = (whole: Float32Array, position: number): Float32Array =>
  whole.subarray(position * SHAPE.vocabSize, (position + 1) * SHAPE.vocabSize);

for (const [name, input] of Object.entries(CASES)) {
  test(`${name}: odd chunks, decoding and packed sequences give the logits of forward`, () => {
    const before = tf.memory().numTensors;
    const model = inFloat8(input);
    const [tokens, others] = randomTokens(2, LENGTH) as [number[], number[]];
    const { chunks, whole } = logitsOf(model, tokens);
    let at = 0;
    for (const [i, count] of CHUNKS.entries()) {
      at += count;
      const found = tf.tensor1d(chunks[i] as Float32Array);
      close(found, rowAt(whole, at - 1), routeTolerance(name), `logits at ${at - 1}`);
      found.dispose();
    }
    const caches = [model.createCache(), model.createCache()] as const;
    const sequences: PackedSequence[] = [
      { tokens: Int32Array.from(tokens), cache: caches[0], logits: LENGTH },
      { tokens: Int32Array.from(others.slice(0, 7)), cache: caches[1], logits: 7 },
    ];
    tf.tidy(() => {
      const packed = model.extendPacked(sequences) as tf.Tensor2D;
      const alone = model.forward(ids([others.slice(0, 7)])).dataSync<'float32'>();
      close(packed, Float32Array.of(...whole, ...alone), routeTolerance(name), 'packed');
    });
    for (const cache of caches) cache.dispose();
    model.dispose();
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
  });

  test(`${name}: projections are rounded, loaded or not, and nothing else is`, () => {
    const config = createConfig({ ...input, ...WIDE });
    const initial = made('float8', () => createModel(config, { seed: 7 }));
    for (const [model, usual] of [
      [initial, createModel(config, { seed: 7, compute: null })],
      [inFloat8(input), testModel({ ...input, ...WIDE })],
    ] as const) {
      let rounded = 0;
      for (const [parameter, variable] of model.parameters) {
        const values = usual.parameters.get(parameter)?.dataSync() as Float32Array;
        const isWord = /embed|output_projection|^output\.|lm_head/.test(parameter);
        const suits = variable.rank === 2 && !isWord && variable.shape.every((extent) => extent % 16 === 0);
        const expected = suits ? roundRows(values, variable.shape[1] as number) : values;
        assert.equal(variable.dataSync(), expected, parameter);
        if (suits) assert.not.equal(expected, values, `${parameter} is changed by rounding`);
        rounded += suits ? 1 : 0;
      }
      assert.ok(rounded >= 5 * Math.min(2, config.layers), `${rounded} rounded`);
      model.dispose();
      usual.dispose();
    }
  });

  test(`${name}: only products read weights that are kept in float8`, () =>
    onPlainBackend(() => {
      const [tokens] = randomTokens(1, LENGTH) as [number[]];
      const read = (): ReturnType<typeof logitsOf> & { losses: Float32Array } => {
        const model = inFloat8(input);
        const losses = tf.tidy(() => model.loss(ids([tokens]), ids([tokens])).dataSync<'float32'>());
        const logits = logitsOf(model, tokens);
        model.dispose();
        return { ...logits, losses };
      };
      const expected = read();
      assert.equal(withHiddenWeights(read), expected);
    }));
}

/** Runs `work` with an engine that keeps weights in float8 apart: to everything but products they are NaN. */
function withHiddenWeights<T>(work: () => T): T {
  const hidden = new WeakMap<object, tf.Tensor>();
  const shown = (weight: tf.Tensor): tf.Tensor => hidden.get(weight.dataId) as tf.Tensor;
  const made: tf.Tensor[] = [];
  registerFusedKernel('cpu', 'KeepFloat8', ({ weight }) => {
    const values = tf.keep(roundedToFloat8(weight));
    made.push(values);
    if (weight instanceof tf.Variable) weight.assign(tf.fill(weight.shape, NaN));
    hidden.set(weight.dataId, values);
    return [];
  });
  registerFusedKernel('cpu', 'LinearFloat8', ({ x, weight, residual }) => [
    linear(roundedToFloat8(x), shown(weight), residual),
  ]);
  registerFusedKernel('cpu', 'LinearGroupFloat8', (inputs, { count }) =>
    linearGroup(
      roundedToFloat8(inputs.x as tf.Tensor),
      Array.from({ length: count }, (_, i) => shown(inputs[`weight${i}`] as tf.Tensor)),
    ),
  );
  registerFusedKernel('cpu', 'LinearSwiGluFloat8', ({ x, activated, gate }) => [
    roundedToFloat8(linearSwiglu(roundedToFloat8(x), shown(activated), shown(gate))),
  ]);
  try {
    return work();
  } finally {
    tf.dispose(made);
    for (const name of ['KeepFloat8', 'LinearFloat8', 'LinearGroupFloat8', 'LinearSwiGluFloat8']) {
      tf.unregisterKernel(name, 'cpu');
    }
  }
}

test('a model in float8 has no gradients, and says so; beside it others have', () => {
  const [tokens, targets] = [ids(randomTokens(1, 5, 1)), ids(randomTokens(1, 5, 2))];
  const differentiate = (model: LanguageModel): void => {
    tf.tidy(() => {
      valueAndGradients(model, () => tf.mean(model.loss(tokens, targets)));
    });
    model.dispose();
  };
  const input = CASES['gated retention'] ?? {};
  assert.throws(() => {
    differentiate(inFloat8(input));
  }, /weights that are kept in float8 have no gradient/);
  differentiate(testModel({ ...input, ...WIDE }));
  made('float8', () => {
    differentiate(createModel(createConfig({ ...input, ...WIDE }), { compute: null }));
  });
});

test.run();
