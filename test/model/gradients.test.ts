/** Gradients told one by one are those that are returned together. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { valueAndGradients } from '../../src/model/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { CASES, ids, randomTokens, testModel } from './cases.js';

const test = suite('gradients while the backward pass goes on');

test.before(usePlainBackend);

/** Parameters read once and several times, keys that other layers read, readouts. */
const NAMES = ['gated retention', 'yoco, tied', 'unstacked yoco', 'cla3', 'custom', 'sambay'] as const;

for (const name of NAMES) {
  test(name, () => {
    const input = CASES[name];
    assert.ok(input !== undefined);
    const model = testModel(input);
    const before = tf.memory().numTensors;
    const [tokens, targets] = [randomTokens(2, 9, 1), randomTokens(2, 9, 2)];
    for (const recompute of [false, true]) {
      const compute = (): tf.Scalar => model.objective(ids(tokens), ids(targets), null, { recompute }).total;
      const expected = valueAndGradients(model, compute);
      const told = new Map<string, Float32Array>();
      let isRunning = true;
      const found = valueAndGradients(model, compute, (parameter, gradient) => {
        assert.ok(isRunning && !told.has(parameter), `${parameter} is told once, during the pass`);
        told.set(parameter, gradient.dataSync<'float32'>().slice());
        gradient.dispose();
      });
      isRunning = false;
      assert.equal([...found.value.dataSync()], [...expected.value.dataSync()]);
      assert.is(found.gradients.size, 0);
      assert.is(told.size, expected.gradients.size);
      for (const [parameter, gradient] of expected.gradients) {
        assert.equal(told.get(parameter), gradient.dataSync(), `${parameter}: the same bits`);
      }
      tf.dispose([expected.value, found.value, ...expected.gradients.values()]);
    }
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
    model.dispose();
  });
}

test.run();
