/** Products with weights in float8 on a device that computes nothing: what is launched, in which form tensors are, what memory is held. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../../src/engines/cuda/index.js';
import { cudaRecorder } from '../../../src/engines/cuda/recorder.js';
import {
  gatedRmsNorm,
  keepInFloat8,
  linear,
  linearGroup,
  linearSwiglu,
  rmsNorm,
} from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { waits } from './early-kernels.js';
import { cudaBackend } from './gpu.js';
import { type Launch, type StandIn, standIn } from './stand-in.js';

const test = suite('cuda products in float8');
const [INNER, WIDTH] = [64, 48];

async function started(): Promise<StandIn> {
  const on = standIn();
  const engine = await startOn(on.device);
  assert.is(engine.float8, true);
  return on;
}

const queued = ({ launches }: StandIn): string[] =>
  launches
    .splice(0)
    .map(({ name }) => name)
    .filter((name) => !/^(fill|unary)/.test(name));

function keptWeights(on: StandIn, count: number): tf.Variable[] {
  const weights = Array.from({ length: count }, () => tf.variable(tf.fill([WIDTH, INNER], 0.5), false));
  on.launches.splice(0);
  weights.forEach(keepInFloat8);
  return weights;
}

test('a weight is kept in one byte an element and a factor a row', async () => {
  const on = await started();
  const bytes = (): number => on.device.allocator.memory().liveBytes;
  const before = bytes();
  const [weight] = tf.tidy(() => keptWeights(on, 1));
  assert.equal(queued(on), ['round_rows_small']);
  assert.is(bytes() - before, WIDTH * INNER + 4 * WIDTH);
  const backend = cudaBackend();
  backend.pointer(weight as tf.Tensor);
  assert.equal(queued(on), ['float8_values'], 'other forms are derived from it');
  tf.dispose(weight);
  assert.is(bytes(), before);
});

test('x is rounded once for all products of it; few rows are one launch, many are products', async () => {
  const on = await started();
  const weights = tf.tidy(() => keptWeights(on, 3));
  for (const [rows, expected] of [
    [8, ['gemv_float8']],
    [9, ['product', 'product', 'product']],
  ] as const) {
    tf.tidy(() => {
      const x = tf.fill([rows, INNER], 1);
      on.launches.splice(0);
      assert.equal(linearGroup(x, weights).map(({ shape }) => shape), [0, 1, 2].map(() => [rows, WIDTH])); // prettier-ignore
      assert.equal(queued(on), ['round_rows_small', ...expected]);
      linear(x, weights[0] as tf.Tensor, tf.fill([rows, WIDTH], 1));
      assert.equal(queued(on), [expected[0]]);
    });
  }
  tf.dispose(weights);
});

test('factors go with their operands, and the residual is added', async () => {
  const on = await started();
  const [weight] = tf.tidy(() => keptWeights(on, 1)) as [tf.Variable];
  const backend = cudaBackend();
  tf.tidy(() => {
    const [x, residual] = [tf.fill([32, INNER], 1), tf.fill([32, WIDTH], 1)];
    const y = linear(x, weight, residual);
    const product = on.launches.find(({ product }) => product)?.product;
    const [left, right] = [backend.inFloat8(x), backend.inFloat8(weight)];
    assert.equal([product?.m, product?.n, product?.k], [32, WIDTH, INNER]);
    assert.equal([product?.type, product?.outputType, product?.transposeB], ['float8', 'bfloat16', true]);
    assert.equal([product?.a, product?.b], [left.codes, right.codes]);
    assert.equal(product?.factors, [left.factors, right.factors]);
    assert.equal([product?.c, product?.d], [backend.pointer(residual), backend.pointer(y)]);
  });
  tf.dispose(weight);
});

test('what SwiGLU gives is in float8 alone, as the product after it takes it', async () => {
  const on = await started();
  const weights = tf.tidy(() => keptWeights(on, 2)) as [tf.Variable, tf.Variable];
  const down = tf.tidy(() => {
    const weight = tf.variable(tf.fill([INNER, WIDTH], 0.5), false);
    keepInFloat8(weight);
    return weight;
  });
  for (const [rows, expected, after] of [
    [1, ['round_rows_small', 'gemv_float8_swiglu', 'round_rows_small'], 'gemv_float8'],
    [32, ['round_rows_small', 'product', 'product', 'swiglu_rows_small'], 'product'],
  ] as const) {
    tf.tidy(() => {
      const x = tf.fill([rows, INNER], 1);
      on.launches.splice(0);
      const y = linearSwiglu(x, ...weights);
      assert.equal(queued(on), [...expected]);
      assert.is(cudaBackend().storageFor(y), 'bfloat16');
      linear(y, down);
      assert.equal(queued(on), [after]);
      y.dataSync();
      assert.equal(queued(on), ['float8_values'], 'read from that form');
    });
  }
  tf.dispose([...weights, down]);
});

test('a change in place drops the rounded rows', async () => {
  const on = await started();
  const backend = cudaBackend();
  for (const storage of ['bfloat16', 'float32'] as const) {
    for (const keep of [true, false]) {
      const x = backend.output([4, INNER]);
      backend.inFloat8(x);
      backend.writable(x, storage, keep);
      on.launches.splice(0);
      backend.inFloat8(x);
      assert.equal(queued(on).at(-1), 'round_rows_small', `${storage}, ${keep}`);
      backend.inFloat8({ ...x, shape: [INNER, 4] });
      assert.equal(queued(on), ['round_rows_any'], 'rows of another width');
      backend.release(x);
    }
  }
});

test('kernels that are launched early wait for the ones before them', async () => {
  const on = await started();
  const weights = tf.tidy(() => keptWeights(on, 2)) as [tf.Variable, tf.Variable];
  tf.tidy(() => {
    on.launches.splice(0);
    for (const rows of [1, 100]) linearSwiglu(tf.fill([rows, INNER], 1), ...weights).dataSync();
    const early = on.launches.filter(({ early }) => early !== undefined);
    assert.equal(new Set(early.map(({ name }) => name)), new Set(['round_rows_small', 'gemv_float8_swiglu', 'swiglu_rows_small', 'float8_values'])); // prettier-ignore
    for (const launch of early) assert.ok(waits(launch), launch.name);
  });
  tf.dispose(weights);
});

test('norms leave their rows in float8 once a weight is kept so, but for those of heads', async () => {
  const on = await started();
  tf.tidy(() => {
    const [x, gain, gate] = [tf.fill([3, INNER], 2), tf.fill([INNER], 1), tf.fill([3, INNER], 1)];
    on.launches.splice(0);
    rmsNorm(x, null, 1e-5).dataSync();
    assert.equal(queued(on).slice(0, 1), ['rms_norm_small']);
    const weights = keptWeights(on, 2);
    on.launches.splice(0);
    const y = rmsNorm(x, gain, 1e-5);
    const [launch] = on.launches as [Launch];
    assert.equal(queued(on), ['rms_norm_float8_small']);
    const backend = cudaBackend();
    const { codes, factors } = backend.inFloat8(y);
    const addresses = [backend.pointer(x), backend.pointer(gain), backend.pointer(y), codes, factors];
    assert.equal(launch.args.slice(0, 5).map(({ value }) => value), addresses); // prettier-ignore
    assert.ok(waits(launch));
    linearGroup(y, weights);
    linearSwiglu(y, ...(weights as [tf.Variable, tf.Variable]));
    assert.equal(queued(on).slice(0, 2), ['gemv_float8', 'gemv_float8_swiglu'], 'nothing is left to round');
    gatedRmsNorm(x, gate, 1e-5);
    rmsNorm(tf.fill([1, 2 ** 17], 1), null, 1e-5);
    assert.equal(queued(on).filter((name) => name.startsWith('rms')), ['rms_norm_small', 'rms_norm_any']); // prettier-ignore
    weights.forEach((weight) => {
      weight.dispose();
    });
  });
});

test('a recorded step launches what a chain has put off before a norm that no chain takes', async () => {
  const on = await started();
  const weights = tf.tidy(() => keptWeights(on, 2));
  const plain = tf.tidy(() => tf.fill([INNER, INNER], 0.5));
  const recorded = cudaRecorder(cudaBackend()).record({
    position: 0,
    inputShape: [1, INNER],
    carried: () => [],
    compute: (ids) =>
      tf.tidy(() => {
        const x = linear(tf.cast(ids, 'float32'), plain);
        return tf.addN(linearGroup(rmsNorm(x, null, 1e-5), weights));
      }),
  });
  const [launches = []] = [...on.graphs.values()];
  const names = launches.map(({ name }) => name).filter((name) => /gemv|norm|round/.test(name));
  assert.equal(names, ['gemv_chain_one', 'rms_norm_float8_small', 'gemv_float8']);
  recorded?.dispose();
  tf.dispose([...weights, plain]);
});

test('engines without the products compose them', async () => {
  const { device } = standIn();
  const engine = await startOn({ ...device, driver: { ...device.driver, architecture: 'sm_80' } });
  assert.is(engine.float8, false);
  assert.is(tf.getKernel('LinearFloat8', engine.backend), undefined);
});

test.run();
