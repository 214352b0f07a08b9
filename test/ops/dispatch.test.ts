import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { differentiable, runKernel } from '../../src/ops/dispatch.js';
import { recomputed, rmsNorm, swiglu } from '../../src/ops/index.js';
import { registerFusedKernel } from '../../src/ops/kernels.js';
import * as tf from '../../src/tf.js';
import { onPlainBackend, usePlainBackend } from '../plain-backend.js';
import { close } from './compare.js';

const test = suite('ops: dispatch and gradients');
test.before(usePlainBackend);

/** y = x, telling how many buffers live when the gradient passes. */
function probe(x: tf.Tensor, seen: (buffers: number) => void): tf.Tensor {
  const [y] = differentiable({
    inputs: { x },
    forward: () => [tf.clone(x)],
    backward: ([dy]) => {
      seen(tf.memory().numDataBuffers);
      return { x: tf.clone(dy as tf.Tensor) };
    },
  });
  return y as tf.Tensor;
}

/** Ten steps, each of which keeps its input for the backward pass. */
function chain(x: tf.Tensor, w: tf.Tensor): tf.Tensor {
  return Array.from({ length: 10 }).reduce<tf.Tensor>((y) => swiglu(y, w), x);
}

test('the backward pass frees saved activations and gradients as it goes', () => {
  const x = tf.ones([5]);
  const before = tf.memory().numDataBuffers;
  let [first, last] = [0, 0];
  tf.tidy(() => {
    tf.grad((x: tf.Tensor) => {
      let y = probe(x, (buffers) => (last = buffers));
      for (let i = 0; i < 10; i++) y = rmsNorm(y, null, 1);
      return probe(y, (buffers) => (first = buffers));
    })(x);
  });
  assert.ok(first - before >= 10, 'all activations are there when the backward pass begins');
  assert.ok(last - before <= 3, `at its end ${last - before} tensors are left`);
  x.dispose();
});

test('recomputed keeps inputs only, and gives the same gradients', () => {
  const x = tf.randomNormal([1000], 0, 1, 'float32', 1);
  const w = tf.variable(tf.randomNormal([1000], 0, 1, 'float32', 2));
  const before = tf.memory().numTensors;
  const run = (block: (x: tf.Tensor) => tf.Tensor): { grads: tf.Tensor[]; kept: number } => {
    const start = tf.memory().numDataBuffers;
    let kept = 0;
    const { grads } = tf
      .engine()
      .gradients(() => tf.sum(probe(block(x), (buffers) => (kept = buffers - start))), [x, w]);
    return { grads, kept };
  };
  tf.tidy(() => {
    const usual = run((x) => chain(x, w));
    const again = run((x) => recomputed((...[x]) => chain(x as tf.Tensor, w), [x], [w]));
    for (const [i, gradient] of again.grads.entries()) {
      close(gradient, (usual.grads[i] as tf.Tensor).dataSync(), 1e-6, `gradient ${i}`);
    }
    assert.is(usual.kept - again.kept, 9, 'only the input of the ten steps is kept');
  });
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
  tf.dispose([x, w]);
});

test("the caller's own dy stays", () => {
  const [x, dy] = [tf.ones([3]), tf.ones([3])];
  tf.tidy(() => {
    tf.grad((x: tf.Tensor) => swiglu(x, x))(x, dy);
  });
  assert.equal([...dy.dataSync()], [1, 1, 1]);
  tf.dispose([x, dy]);
});

test('a gradient given as a function is computed only where it is needed', () => {
  const calls: string[] = [];
  const product = (a: tf.Tensor, b: tf.Tensor): tf.Tensor =>
    differentiable({
      inputs: { a, b },
      forward: (save) => {
        save([a, b]);
        return [tf.mul(a, b)];
      },
      backward: ([dy], [a, b]) => ({
        a: () => {
          calls.push('a');
          return tf.mul(dy as tf.Tensor, b as tf.Tensor);
        },
        b: () => {
          calls.push('b');
          return tf.mul(dy as tf.Tensor, a as tf.Tensor);
        },
      }),
    })[0] as tf.Tensor;
  const before = tf.memory().numTensors;
  tf.tidy(() => {
    const constant = tf.tensor1d([2, 3]);
    const gradient = tf.grad((a: tf.Tensor) => product(a, constant))(tf.tensor1d([5, 7]));
    assert.equal([...gradient.dataSync()], [2, 3]);
    assert.equal(calls, ['a']);
  });
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
});

test('an output that is not used has a gradient of zeros', () => {
  tf.tidy(() => {
    const gradient = tf.grad((x: tf.Tensor) => {
      const [y] = differentiable({
        inputs: { x },
        forward: () => [tf.mul(x, 2), tf.mul(x, 3)],
        backward: ([dy, unused]) => ({
          x: tf.add(tf.mul(dy as tf.Tensor, 2), tf.mul(unused as tf.Tensor, 3)),
        }),
      });
      return y as tf.Tensor;
    })(tf.ones([2]));
    assert.equal([...gradient.dataSync()], [2, 2]);
  });
});

test('optional inputs that are absent do not reach a kernel', () =>
  onPlainBackend(() => {
    const names: string[][] = [];
    registerFusedKernel('cpu', 'RmsNorm', (inputs) => {
      names.push(Object.keys(inputs));
      return tf.clone(inputs.x);
    });
    try {
      tf.tidy(() => {
        const x = tf.ones([2]);
        runKernel('RmsNorm', { x, weight: undefined }, { eps: 1 }, () => []);
        runKernel('RmsNorm', { x, weight: x }, { eps: 1 }, () => []);
      });
      assert.equal(names, [['x'], ['x', 'weight']]);
    } finally {
      tf.unregisterKernel('RmsNorm', 'cpu');
    }
  }));

test.run();
