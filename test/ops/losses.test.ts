import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  adamW,
  adamWAll,
  clipScale,
  crossEntropy,
  linearCrossEntropy,
  weightedCrossEntropy,
} from '../../src/ops/index.js';
import { registerFusedKernel } from '../../src/ops/kernels.js';
import * as tf from '../../src/tf.js';
import { leakedTensors, onPlainBackend, usePlainBackend } from '../plain-backend.js';
import { close, compareOp, withLimits } from './compare.js';
import * as reference from './reference.js';

const test = suite('ops: losses and optimizer');
test.before(usePlainBackend);

const targets = [4, 0, 2, 2, 6];

test('linearCrossEntropy and the gradient of embedding in several blocks of rows', () => {
  withLimits({ logitElements: 14, oneHotElements: 14 }, () => {
    compareOp({
      shapes: [
        [5, 3],
        [7, 3],
      ],
      op: (x, weight) => [
        linearCrossEntropy(x as tf.Tensor2D, weight as tf.Tensor2D, tf.tensor1d(targets, 'int32')),
      ],
      reference: (x, weight) => [reference.crossEntropy(reference.linear(x, weight), targets)],
    });
  });
});

const WEIGHTS = [0.5, -1, 2, 0, 0.25];
const DY = 1.5;

/** The weighted sum, its gradients times DY, and the losses. */
function weightedResults(): { values: number[][]; losses: number[] } {
  return tf.tidy(() => {
    const [x, weight] = [5, 7].map((rows, i) => tf.randomNormal([rows, 3], 0, 1, 'float32', i + 1)) as [
      tf.Tensor2D,
      tf.Tensor2D,
    ];
    let losses: number[] = [];
    const { value, grads } = tf.valueAndGrads((x, weight) => {
      const ids = tf.tensor1d(targets, 'int32');
      const result = weightedCrossEntropy(x as tf.Tensor2D, weight as tf.Tensor2D, ids, tf.tensor1d(WEIGHTS));
      losses = [...result.losses.dataSync()];
      return result.total;
    })([x, weight], tf.scalar(DY));
    return { values: [value, ...grads].map((tensor) => [...tensor.dataSync()]), losses };
  });
}

test('weightedCrossEntropy is the weighted sum, with or without an engine that forms its gradients at once', () =>
  onPlainBackend(() => {
    const plain = weightedResults();
    const sum = WEIGHTS.reduce((total, weight, i) => total + weight * (plain.losses[i] ?? NaN), 0);
    assert.ok(Math.abs((plain.values[0]?.[0] ?? NaN) - sum) < 1e-5);
    let calls = 0;
    registerFusedKernel('cpu', 'WeightedCrossEntropy', ({ x, weight, weights }) => {
      calls++;
      assert.equal([...weights.dataSync()], WEIGHTS);
      const [, dx = [], dWeight = []] = plain.values;
      const gradients = [tf.tensor(dx, x.shape), tf.tensor(dWeight, weight.shape)];
      return [tf.tensor1d(plain.losses), ...gradients.map((gradient) => tf.div(gradient, DY))];
    });
    try {
      const fused = weightedResults();
      assert.is(calls, 1);
      plain.values.forEach((values, i) => {
        close(tf.tensor1d(fused.values[i] ?? []), values, 1e-5, `result ${i}`);
      });
      close(tf.tensor1d(fused.losses), plain.losses, 1e-5, 'losses');
      const ids = tf.tensor1d(targets, 'int32');
      weightedCrossEntropy(tf.ones([5, 3]), tf.ones([7, 3]), ids, tf.tensor1d(WEIGHTS));
      assert.is(calls, 1, 'without a gradient nothing is formed');
      const mean = weightedCrossEntropy(tf.ones([5, 3]), tf.ones([7, 3]), ids, null).total;
      close(mean, [Math.log(7)], 1e-5, 'the mean');
    } finally {
      tf.unregisterKernel('WeightedCrossEntropy', 'cpu');
    }
  }));

/** Three updates of two parameters, by the definition. */
function adamWByHand(start: number[], gradients: number[][], scale: number): number[] {
  return start.map((value, i) => {
    let [parameter, first, second] = [value, 0, 0];
    for (const [t, gradient] of gradients.entries()) {
      const g = (gradient[i] as number) * scale;
      first = 0.9 * first + 0.1 * g;
      second = 0.95 * second + 0.05 * g * g;
      const change = first / (1 - 0.9 ** (t + 1)) / (Math.sqrt(second / (1 - 0.95 ** (t + 1))) + 1e-8);
      parameter = parameter * (1 - 0.01 * 0.1) - 0.01 * change;
    }
    return parameter;
  });
}

test('adamW follows its definition, in place', () => {
  const gradients = [
    [0.5, -2],
    [1, 0],
    [-0.3, 4],
  ];
  for (const scale of [1, 0.25]) {
    const variables = [
      tf.variable(tf.tensor1d([1, -3])),
      tf.variable(tf.zeros([2])),
      tf.variable(tf.zeros([2])),
    ];
    const [parameter, first, second] = variables as [tf.Variable, tf.Variable, tf.Variable];
    const left = leakedTensors(() => {
      tf.tidy(() => {
        for (const [i, gradient] of gradients.entries()) {
          adamW(parameter, tf.tensor1d(gradient), first, second, {
            learningRate: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weightDecay: 0.1,
            step: i + 1,
            ...(scale !== 1 && { scale: tf.scalar(scale) }),
          });
        }
      });
    });
    assert.is(left, 0);
    close(parameter, adamWByHand([1, -3], gradients, scale), 1e-5, `parameter, scale ${scale}`);
    tf.dispose(variables);
  }
});

test('adamWAll updates every parameter as adamW does', () => {
  const options = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };
  const shapes = [[1], [2, 3], [5]];
  const run = (together: boolean): number[] => {
    const updates = shapes.map((shape, i) => {
      const values = tf.tidy(() =>
        tf
          .linspace(
            -1,
            2 + i,
            shape.reduce((a, b) => a * b),
          )
          .reshape(shape),
      );
      const moment = (): tf.Variable => tf.tidy(() => tf.variable(tf.zeros(shape), false));
      const parameter = tf.variable(values, false);
      return {
        parameter,
        gradient: tf.neg(values),
        firstMoment: moment(),
        secondMoment: moment(),
        weightDecay: 0.1 * i,
      };
    });
    const left = leakedTensors(() => {
      for (const scale of [undefined, tf.scalar(0.5)]) {
        const step = scale === undefined ? 1 : 2;
        if (together) adamWAll(updates, { ...options, step, scale });
        else {
          for (const { parameter, gradient, firstMoment, secondMoment, weightDecay } of updates) {
            adamW(parameter, gradient, firstMoment, secondMoment, { ...options, step, scale, weightDecay });
          }
        }
        scale?.dispose();
      }
    });
    assert.is(left, 0);
    const results = updates.flatMap(({ parameter, firstMoment, secondMoment }) =>
      [parameter, firstMoment, secondMoment].flatMap((variable) => [...variable.dataSync()]),
    );
    for (const { parameter, gradient, firstMoment, secondMoment } of updates) {
      tf.dispose([parameter, gradient, firstMoment, secondMoment]);
    }
    return results;
  };
  assert.equal(run(true), run(false));
});

test('clipScale is the factor that brings the norm of all tensors down to the limit', () => {
  const tensors = [tf.tensor2d([[3, 0]]), tf.tensor1d([4]), tf.tensor1d([0, 0, 12])];
  const number = (value: number | tf.Scalar | undefined, absent: number): number => {
    if (typeof value !== 'object') return value ?? absent;
    const [found = NaN] = value.dataSync();
    value.dispose();
    return found;
  };
  for (const [clip, expected] of [
    [0, 1],
    [1, 1 / 13],
    [14, 1],
  ] as const) {
    const left = leakedTensors(() => {
      const { norm, scale } = clipScale(tensors, clip);
      assert.is(number(norm, NaN), 13);
      assert.is(number(scale, 1), Math.fround(expected));
    });
    assert.is(left, 0);
  }
  tf.dispose(tensors);
});

test('a fused kernel takes the place of the composition', () => {
  if (tf.getBackend() !== 'cpu') return; // the kernel below is the plain backend's
  let calls = 0;
  registerFusedKernel('cpu', 'CrossEntropy', ({ logits }) => {
    calls += 1;
    return [tf.zeros([logits.shape[0]]), tf.zeros([logits.shape[0]])];
  });
  try {
    tf.tidy(() => {
      const loss = crossEntropy(tf.ones([2, 3]), tf.tensor1d([0, 1], 'int32'));
      assert.equal([...loss.dataSync()], [0, 0]);
    });
    assert.is(calls, 1);
  } finally {
    tf.unregisterKernel('CrossEntropy', 'cpu');
  }
});

test.run();
