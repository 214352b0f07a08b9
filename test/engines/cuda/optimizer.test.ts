/** The optimizer over many tensors: on a GPU against the plain backend, and its table and launches without one. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type TableEntry, tensorTable } from '../../../src/engines/cuda/kernels/optimizer.js';
import { startOn } from '../../../src/engines/cuda/index.js';
import { adamWAll, clipScale } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { Optimizer } from '../../../src/training/optimizer.js';
import type { Input } from '../../ops/kernels/contract.js';
import { compute, cudaBackend, gpuSuite } from './gpu.js';
import { standIn } from './stand-in.js';

/** Less and more than a piece of 8,192, not multiples of a pack, one element. */
const SHAPES = [[1], [7], [8192], [3, 2731], [129, 257], [2]];
const OPTIONS = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };
const CUDA = 'yoco-cuda';

const offline = suite('cuda optimizer without a GPU');

offline('the table cuts tensors into pieces; one of nothing has none', () => {
  const entry = (size: number, isWide = false): TableEntry => ({
    parameter: 2 ** 46 + 1,
    stored: 2,
    gradient: 3,
    first: 4,
    second: 5,
    size,
    isWide,
    weightDecay: 0.5,
  });
  const { bytes, pieces } = tensorTable([entry(8192), entry(0), entry(8193, true), entry(1)]);
  const view = new DataView(bytes.buffer);
  const rows = [0, 1, 2, 3].map((i) => [view.getInt32(64 * i + 48, true), view.getInt32(64 * i + 52, true)]);
  assert.equal(rows, [
    [0, 0],
    [1, 0],
    [1, 1],
    [3, 0],
  ]);
  assert.is(pieces, 4);
  assert.is(view.getBigInt64(0, true), 2n ** 46n + 1n);
  assert.is(view.getBigInt64(64 * 2 + 40, true), 8193n);
  assert.is(view.getFloat32(64 + 56, true), 0.5);
});

offline('an update of many tensors is three launches; only the norm is read', async () => {
  const on = standIn();
  await startOn(on.device);
  const zeros = (shape: number[]): tf.Variable => tf.tidy(() => tf.variable(tf.zeros(shape), false));
  const parameters = new Map(SHAPES.map((shape, i) => [`p${i}`, zeros(shape)]));
  const gradients = new Map(SHAPES.map((shape, i) => [`p${i}`, tf.zeros(shape)]));
  const optimizer = new Optimizer(parameters, { ...OPTIONS, weightDecay: 0.1, clip: 1 });
  optimizer.apply(gradients, 1, 0.01);
  on.launches.length = 0;
  const before = { tensors: tf.memory().numTensors, bytes: on.device.allocator.memory().liveBytes };
  optimizer.apply(gradients, 2, 0.01);
  assert.equal(
    on.launches.map(({ name, grid }) => `${name} ${grid.join()}`),
    ['square_sums 11', 'clip_scale 1', 'adamw 11'],
  );
  assert.equal({ tensors: tf.memory().numTensors, bytes: on.device.allocator.memory().liveBytes }, before);
  optimizer.dispose();
  tf.dispose([...parameters.values(), ...gradients.values()]);
  await tf.setBackend('cpu');
});

offline.run();

for (const storage of ['float32', 'bfloat16', 'float16'] as const) {
  const test = await gpuSuite(`cuda optimizer, ${storage}`, { storage, seed: 29 });
  const add = (name: string, body: (operands: Input[]) => Promise<void>): void => {
    test(name, (inputs) => {
      const all = [...SHAPES, ...SHAPES];
      return body(all.map((shape) => inputs.normal(shape)));
    });
  };

  add('masters keep what storage rounds away', async () => {
    const run = (): tf.Tensor[] => {
      const [parameter, m, v] = [1, 0, 0].map((x) => tf.variable(tf.fill([3], x), false)) as [
        tf.Variable,
        tf.Variable,
        tf.Variable,
      ];
      const update = { parameter, gradient: tf.ones([3]), firstMoment: m, secondMoment: v, weightDecay: 0 };
      for (let step = 1; step <= 300; step++) adamWAll([update], { ...OPTIONS, learningRate: 1e-4, step });
      const values = tf.mul(parameter, 1);
      tf.dispose([parameter, m, v]);
      return [values];
    };
    const [values] = await compute(CUDA, [], run);
    for (const value of values ?? [])
      assert.ok(Math.abs(value - 0.97) < 4e-3, `300 steps of 1e-4 lead to ${value}`);
  });

  add('norm and factor; what is not finite changes nothing', async (operands) => {
    const gradients = operands.slice(SHAPES.length);
    const expected = Math.sqrt(
      gradients.reduce((sum, { values }) => sum + [...values].reduce((part, x) => part + x * x, 0), 0),
    );
    for (const clip of [0, 1, 1e6]) {
      const measure = (...tensors: tf.Tensor[]): tf.Tensor[] => {
        const { norm, scale } = clipScale(tensors, clip);
        return [norm as tf.Scalar, scale as tf.Scalar];
      };
      const [first, again] = [
        await compute(CUDA, gradients, measure),
        await compute(CUDA, gradients, measure),
      ];
      const [norm, scale] = first.map(([value]) => value ?? NaN) as [number, number];
      assert.ok(Math.abs(norm / expected - 1) < 1e-6, `norm ${norm}, not ${expected}`);
      assert.ok(Math.abs(scale / (clip === 1 ? 1 / expected : 1) - 1) < 1e-6, `scale ${scale}`);
      assert.equal(again, first);
    }
    await tf.setBackend(CUDA);
    const parameters = new Map([['p', tf.variable(tf.tensor1d([1, 2, 3]), false)]]);
    const optimizer = new Optimizer(parameters, { ...OPTIONS, weightDecay: 0.1, clip: 1 });
    const gradient = new Map([['p', tf.tensor1d([1, NaN, 1])]]);
    assert.ok(Number.isNaN(optimizer.apply(gradient, 1, 0.1)));
    assert.equal([...(parameters.get('p')?.dataSync() ?? [])], [1, 2, 3]);
    assert.equal([...(optimizer.state().get('first.p')?.dataSync() ?? [])], [0, 0, 0]);
    assert.is(cudaBackend().storage, storage);
    optimizer.dispose();
    tf.dispose([...parameters.values(), ...gradient.values()]);
  });

  test.run();
}
