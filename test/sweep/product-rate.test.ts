import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCpu } from '../../src/engines/cpu/index.js';
import type { Engine } from '../../src/engines/engine.js';
import { RunError } from '../../src/errors.js';
import { ProductRate } from '../../src/sweep/product-rate.js';
import * as tf from '../../src/tf.js';
import { rejects } from '../checkpoint/scratch.js';
import { stubEngine } from '../evaluation/stub-model.js';
import { usePlainBackend, whyNotCpu } from '../plain-backend.js';

const test = suite('rate of a large product');
test.before(usePlainBackend);
test.after(usePlainBackend);

/** Runs `work` by a clock that stands still but where the engine is waited for: so many seconds each time. */
async function byClock<T>(seconds: number, work: (engine: Engine) => Promise<T>): Promise<T> {
  const now = performance.now.bind(performance);
  let milliseconds = 0;
  performance.now = () => milliseconds;
  const synchronize = (): Promise<void> => {
    milliseconds += 1000 * seconds;
    return Promise.resolve();
  };
  try {
    return await work({ ...stubEngine, synchronize });
  } finally {
    performance.now = now;
  }
}

test('the size grows until a product takes long enough, a measurement has as many as fill its time', async () => {
  await byClock(0.01, async (engine) => {
    const product = await ProductRate.choose(engine);
    assert.equal([product.size, product.count], [64, 3]);
    assert.ok(Math.abs((await product.measure()) / ((3 * 2 * 64 ** 3) / 0.01) - 1) < 1e-9);
  });
  const slow = await byClock(1, (engine) => ProductRate.choose(engine));
  assert.equal([slow.size, slow.count], [64, 1]);
});

test('matrix and product take a share of the memory at most', async () => {
  const roomFor = (size: number): number => 64 * 2 * 4 * size ** 2;
  for (const [bytes, size] of [
    [roomFor(256), 256],
    [roomFor(256) - 1, 128],
    [0, 64],
  ] as const) {
    const product = await byClock(1e-6, (engine) =>
      ProductRate.choose({ ...engine, availableBytes: () => bytes }),
    );
    assert.equal([product.size, product.count], [size, 64]);
  }
});

/** Chooses and measures twice, leaving no tensor. */
async function leavesNothing(engine: Engine): Promise<void> {
  const before = tf.memory();
  const product = await ProductRate.choose({ ...engine, availableBytes: () => 2 ** 26 });
  for (let i = 0; i < 2; i++) {
    const rate = await product.measure();
    assert.ok(rate > 0 && Number.isFinite(rate));
    const { numTensors, numDataBuffers } = tf.memory();
    assert.equal([numTensors, numDataBuffers], [before.numTensors, before.numDataBuffers]);
  }
}

test('no tensor is left, on the plain backend and the cpu engine', async () => {
  await leavesNothing(stubEngine);
  if (whyNotCpu() !== null) return;
  const engine = await startCpu({ threads: 1 });
  await leavesNothing(engine);
  await usePlainBackend();
});

test('no tensor is left where the engine fails', async () => {
  const before = tf.memory().numTensors;
  const engine = { ...stubEngine, synchronize: () => Promise.reject(new RunError('the device is gone')) };
  await rejects(ProductRate.choose(engine), /the device is gone/);
  assert.is(tf.memory().numTensors, before);
});

test.run();
