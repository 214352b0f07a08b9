/** Which products and kernels the projections of one x and their gradients are, on a device that computes nothing. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../../src/engines/cuda/index.js';
import { linearGroup } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { cudaBackend } from './gpu.js';
import { type Launch, type StandIn, standIn } from './stand-in.js';

const test = suite('cuda projections of one x');
const [ROWS, INNER] = [32, 64];

/** Weights to these widths, none beside another. */
function apart(widths: readonly number[], inner = INNER): tf.Tensor[] {
  return widths.map((width) => {
    tf.fill([3000], 1);
    return tf.fill([width, inner], 0.5);
  });
}

async function started(storage: 'bfloat16' | 'float32' = 'bfloat16'): Promise<StandIn> {
  const on = standIn();
  await startOn({ ...on.device, storage });
  return on;
}

/** What was queued since the last call, products by their sizes: `m n k`, `xBATCH`, `+` where they are added to another matrix. */
function queued({ launches }: StandIn): string[] {
  return launches.splice(0).filter(({ name }) => !/^(fill|cast|unary)/.test(name)).map(described); // prettier-ignore
}

function described({ name, product }: Launch): string {
  if (product === undefined) return name;
  const { m, n, k, batch, c } = product;
  return `${m} ${n} ${k}${batch === 1 ? '' : ` x${batch}`}${c === undefined ? '' : ' +'}`;
}

const NARROW_GRAD = ['linear_narrow_weight_grad', 'linear_narrow_sum'];

test('weights of equal shape are moved side by side once, and their products are one', async () => {
  const on = await started();
  tf.tidy(() => {
    const x = tf.fill([2, ROWS / 2, INNER], 1);
    const weights = apart([48, 48, 5, 48, 3, 5]);
    on.launches.splice(0);
    const forward = (): tf.Tensor[] => linearGroup(x, weights);
    const first = forward();
    assert.equal(
      first.map(({ shape }) => shape),
      [48, 48, 5, 48, 3, 5].map((width) => [2, ROWS / 2, width]),
    );
    assert.equal(queued(on), [
      ...['copy', 'copy', 'copy', '32 48 64 x3', 'linear_narrow', 'linear_narrow', 'linear_narrow'],
    ]);
    forward();
    const product = on.launches.find(({ product }) => product)?.product;
    assert.equal(queued(on), ['32 48 64 x3', 'linear_narrow', 'linear_narrow', 'linear_narrow']);
    assert.equal(
      [product?.strideA, product?.strideB, product?.strideD],
      [0, 48 * 64, 48 * 32],
      'x is that of all',
    );
  });
});

test('sizes that are no multiple of what memory is handed out in lie further apart', async () => {
  const on = await started();
  tf.tidy(() => {
    linearGroup(tf.fill([ROWS, 24], 1), apart([33, 33], 24));
    const product = on.launches.find(({ product }) => product)?.product;
    assert.equal([product?.strideB, product?.strideD], [1024, 1280]);
  });
});

test('gradients: few columns first, each product added to the one before; two of the weights at a time', async () => {
  const on = await started();
  tf.tidy(() => {
    const inputs = [tf.fill([ROWS, INNER], 1), ...apart([48, 48, 48, 3, 40])];
    const dys = [48, 48, 48, 3, 40].map((width) => tf.fill([ROWS, width], 1));
    const gradients = tf.grads((x, ...weights) =>
      tf.addN(linearGroup(x, weights).map((y, i) => tf.sum(tf.mul(y, dys[i] as tf.Tensor)))),
    )(inputs);
    assert.equal(gradients.map(({ shape }) => shape), inputs.map(({ shape }) => shape)); // prettier-ignore
    const products = on.launches.flatMap(({ product }) => (product ? [product] : []));
    const names = queued(on).filter((name) => /^\d|narrow/.test(name));
    assert.equal(names, [
      ...['32 48 64 x3', 'linear_narrow', '32 40 64'],
      ...['linear_narrow_input_grad', '32 64 48 +', '32 64 48 +', '32 64 48 +', '32 64 40 +'],
      ...['48 64 32 x2', '48 64 32', ...NARROW_GRAD, '40 64 32'],
    ]);
    for (const [i, product] of products.entries()) {
      assert.ok(product.c !== product.d, `product ${i} is not in place, so that its algorithm may be timed`);
      if (product.batch === 2)
        assert.ok(product.strideA > 0 && product.strideB === 0 && product.strideD === 48 * 64);
    }
  });
});

test('a batch begins at the lower address, and gives each weight its own gradient', async () => {
  const on = await started();
  const backend = cudaBackend();
  tf.tidy(() => {
    const x = tf.fill([ROWS, INNER], 1);
    const weights = apart([48, 48]) as [tf.Tensor, tf.Tensor];
    const dys = apart([48, 48], ROWS).map((dy) => tf.reshape(dy, [ROWS, 48])) as [tf.Tensor, tf.Tensor];
    const [low, high] = dys.map((dy) => backend.pointer(dy)) as [number, number];
    assert.ok(low < high);
    const run = ([first, second]: readonly [tf.Tensor, tf.Tensor]): number[] => {
      const inputs = { x, weight0: weights[0], weight1: weights[1], dy0: first, dy1: second };
      const outs = tf.engine().runKernel<tf.Tensor[]>('LinearGroupGrad', inputs, { count: 2 });
      return outs.slice(1).map((out) => backend.pointer(out));
    };
    on.launches.splice(0);
    const [forward, turned] = [run(dys), run([dys[1], dys[0]])] as [number[], number[]];
    for (const { product } of on.launches.filter(({ product }) => product?.batch === 2)) {
      assert.equal([product?.a, product?.strideA], [low, (high - low) / 2]);
    }
    assert.ok((forward[0] ?? 0) < (forward[1] ?? 0), 'the first dy is the lower one');
    assert.ok((turned[0] ?? 0) > (turned[1] ?? 0), 'the first dy is the higher one');
  });
});

test('weights that a recording knows stay where they are', async () => {
  const on = await started();
  const backend = cudaBackend();
  tf.tidy(() => {
    const weights = apart([48, 48]);
    const context = { position: 0, keys: 0, place: null, early: false, chain: null, isReplaced: () => false, constant: () => 0 }; // prettier-ignore
    const few = (): tf.Tensor[] => linearGroup(tf.fill([1, INNER], 1), weights);
    const many = (): tf.Tensor[] => linearGroup(tf.fill([ROWS, INNER], 1), weights);
    backend.device.recording = context;
    few();
    many();
    backend.device.recording = null;
    const before = weights.map((weight) => backend.pointer(weight));
    many();
    assert.equal(weights.map((weight) => backend.pointer(weight)), before); // prettier-ignore
    assert.equal(queued(on), ['gemv', '32 48 64', '32 48 64', '32 48 64', '32 48 64']);
  });
});

test('one weight twice, and float32 storage', async () => {
  const on = await started('float32');
  tf.tidy(() => {
    const x = tf.fill([ROWS, INNER], 1);
    const [weight, other] = apart([48, 48]) as [tf.Tensor, tf.Tensor];
    on.launches.splice(0);
    linearGroup(x, [weight, weight]);
    assert.equal(queued(on), ['32 48 64', '32 48 64']);
    linearGroup(x, [weight, other]);
    linearGroup(x, apart([3, 2]));
    assert.equal(queued(on), ['copy', 'copy', '32 48 64 x2', '32 3 64', '32 2 64']);
  });
});

test.run();
