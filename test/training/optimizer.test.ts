import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createConfig, createModel, type LanguageModel } from '../../src/model/index.js';
import * as tf from '../../src/tf.js';
import { Optimizer } from '../../src/training/optimizer.js';
import { GradientSum, type LossSums } from '../../src/training/step.js';
import { windowBatch } from '../../src/training/task.js';
import type { Batch } from '../../src/training/task.js';
import { SMALL } from '../checkpoint/checkpoints.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('training/optimizer');

test.before(usePlainBackend);

const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.5, clip: 0 };

/** Parameters with the gradients of the test, after one update at rate 0.1. */
function update(change: Partial<typeof options>): { matrix: number[]; vector: number[] } {
  const matrix = tf.variable(tf.tensor2d([1, -2], [1, 2]));
  const vector = tf.variable(tf.tensor1d([4]));
  const parameters = new Map<string, tf.Variable>([
    ['matrix', matrix],
    ['vector', vector],
  ]);
  const gradients = new Map<string, tf.Tensor>([
    ['matrix', tf.tensor2d([3, 0], [1, 2])],
    ['vector', tf.tensor1d([4])],
  ]);
  const optimizer = new Optimizer(parameters, { ...options, ...change });
  assert.is(optimizer.apply(gradients, 1, 0.1), 5);
  const result = { matrix: [...matrix.dataSync()], vector: [...vector.dataSync()] };
  optimizer.dispose();
  tf.dispose([...parameters.values(), ...gradients.values()]);
  return result;
}

const close = (found: readonly number[], expected: readonly number[], tolerance = 1e-6): void => {
  assert.is(found.length, expected.length);
  const worst = Math.max(...expected.map((value, index) => Math.abs((found[index] ?? NaN) - value)));
  assert.ok(worst <= tolerance, `off by ${worst}`);
};

test('the first step of AdamW is the learning rate in the direction of the gradient; matrices decay', () => {
  const { matrix, vector } = update({});
  close(matrix, [1 * (1 - 0.05) - 0.1, -2 * (1 - 0.05)]);
  close(vector, [4 - 0.1]);
});

test('clipping scales all gradients together', () => {
  // With a large epsilon the step is proportional to the gradient: lr * g / epsilon.
  const plain = update({ epsilon: 1e4, weightDecay: 0 });
  const clipped = update({ epsilon: 1e4, weightDecay: 0, clip: 1 });
  const loose = update({ epsilon: 1e4, weightDecay: 0, clip: 6 });
  close([(4 - (plain.vector[0] ?? 0)) * 1e5], [4], 0.3);
  close([(4 - (clipped.vector[0] ?? 0)) * 1e5], [0.8], 0.3);
  assert.equal(loose, plain);
});

function randomBatch(rows: number, length: number, seed: number): Batch {
  const windows = Int32Array.from(
    { length: rows * (length + 1) },
    (_, index) => (index * 7 + seed * 11 + (index % 5)) % 40,
  );
  return windowBatch(windows, rows);
}

const flat = (gradients: ReadonlyMap<string, tf.Tensor>): number[] =>
  [...gradients.values()].flatMap((gradient) => [...gradient.dataSync()]);

function gradientsOf(
  model: LanguageModel,
  batches: readonly Batch[],
  recompute = false,
): { gradients: ReadonlyMap<string, tf.Tensor>; losses: LossSums } {
  const sum = new GradientSum(model, { batches: batches.length, recompute });
  for (const batch of batches) sum.add(batch);
  return { gradients: sum.gradients, losses: sum.readLosses() };
}

test('micro-batches accumulate to the gradient of the whole', () => {
  const model = createModel(createConfig(SMALL.retention ?? {}), { seed: 1 });
  const [first, second] = [randomBatch(1, 12, 1), randomBatch(1, 12, 2)];
  const join = (a: Int32Array, b: Int32Array): Int32Array => Int32Array.from([...a, ...b]);
  const whole: Batch = {
    ...first,
    rows: 2,
    tokens: join(first.tokens, second.tokens),
    targets: join(first.targets, second.targets),
  };
  const before = tf.memory().numTensors;
  const parts = gradientsOf(model, [first, second]);
  const once = gradientsOf(model, [whole]);
  const again = gradientsOf(model, [whole], true);
  close(flat(parts.gradients), flat(once.gradients), 1e-6);
  close(flat(again.gradients), flat(once.gradients), 1e-6);
  assert.ok(Math.abs(parts.losses.text - once.losses.text) < 1e-4);
  assert.is(parts.losses.textTargets, 24);
  for (const { gradients } of [parts, once, again]) tf.dispose([...gradients.values()]);
  assert.is(tf.memory().numTensors, before, 'no tensor is left behind');
  model.dispose();
});

test('loss at the answers alone has the gradient of the answers in the full loss', () => {
  for (const kind of ['retention', 'window', 'transformer']) {
    const model = createModel(createConfig(SMALL[kind] ?? {}), { seed: 1 });
    const full = randomBatch(2, 12, 3);
    const chosen = [Int32Array.of(4, 9), Int32Array.of(0, 11)];
    const answers = new Uint8Array(24);
    const weights = new Float32Array(24);
    const targets: number[] = [];
    for (const [row, positions] of chosen.entries()) {
      for (const position of positions) {
        answers[row * 12 + position] = 1;
        weights[row * 12 + position] = 0.25;
        targets.push(full.targets[row * 12 + position] ?? 0);
      }
    }
    const few: Batch = {
      ...full,
      positions: chosen,
      targets: Int32Array.from(targets),
      weights: new Float32Array(4).fill(0.25),
      answers: new Uint8Array(4).fill(1),
    };
    const everywhere = gradientsOf(model, [{ ...full, answers, weights }]);
    const somewhere = gradientsOf(model, [few]);
    close(flat(somewhere.gradients), flat(everywhere.gradients), 1e-6);
    assert.ok(Math.abs(somewhere.losses.answer - everywhere.losses.answer) < 1e-5);
    assert.equal([somewhere.losses.answerTargets, everywhere.losses.answerTargets], [4, 4]);
    for (const { gradients } of [everywhere, somewhere]) tf.dispose([...gradients.values()]);
    model.dispose();
  }
});

test.run();
