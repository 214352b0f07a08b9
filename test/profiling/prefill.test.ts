import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Engine } from '../../src/engines/engine.js';
import { createConfig, createModel } from '../../src/model/index.js';
import { measurePrefill, type PrefillFigures } from '../../src/profiling/prefill.js';
import * as tf from '../../src/tf.js';
import { stubEngine } from '../evaluation/stub-model.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('measured prefill');
test.before(usePlainBackend);

const SHAPE = { dim: 16, layers: 2, hiddenDim: 16, heads: 2, vocabSize: 11 };
const WORK = { context: 24, earlyExit: true, chunkSize: 8, seed: 1, warmUp: 1, repetitions: 3 };

/** An engine whose peak grows with what `take` is given. */
function countingEngine(): { engine: Engine; take: (bytes: number) => void } {
  let peakBytes = 0;
  return {
    take: (bytes) => {
      peakBytes = Math.max(peakBytes, bytes);
    },
    engine: {
      ...stubEngine,
      memory: () => ({ liveBytes: 0, peakBytes, reservedBytes: 0 }),
      resetPeak: () => {
        peakBytes = 0;
      },
    },
  };
}

/** Prefills beside products of the given rates, which take a thousand bytes each; the prefills take 1, 2, 3, … */
async function measured(
  rates: readonly number[],
  options: { samples?: number; ranks?: number } = {},
): Promise<{ figures: PrefillFigures; order: string[] }> {
  const { engine, take } = countingEngine();
  const model = createModel(createConfig({ ...SHAPE, architecture: 'yoco' }), { seed: 1 });
  const order: string[] = [];
  const left = [...rates];
  const note = (what: string): void => {
    order.push(what);
    take(order.length);
  };
  const prefill = model.prefill.bind(model);
  model.prefill = (...args) => {
    note(args[0].size === WORK.context ? 'prefill' : 'warm-up');
    return prefill(...args);
  };
  const measure = (): Promise<number> => {
    order.push('product');
    take(1000);
    return Promise.resolve(left.shift() ?? NaN);
  };
  const before = tf.memory().numTensors;
  const figures = await measurePrefill(model, engine, { ...WORK, ...options, product: { measure } });
  assert.is(tf.memory().numTensors, before);
  assert.is(left.length, 0, 'every product was measured');
  model.dispose();
  return { figures, order };
}

test('a product follows each repetition, and takes no part in the peak', async () => {
  const { figures, order } = await measured([5e9, 1e9, 4e9]);
  assert.equal(order, ['warm-up', ...Array.from({ length: 3 }, () => ['prefill', 'product'])].flat());
  assert.is(figures.productFlopsPerSecond, 4e9);
  assert.is(figures.peakBytes, 6, 'of the third repetition');
});

test('the share is of the product of every device', async () => {
  for (const ranks of [1, 2]) {
    const { figures } = await measured([1e9, 1e9, 1e9], { ranks });
    assert.ok(Math.abs(figures.productShare / (figures.flopsPerSecond / ranks / 1e9) - 1) < 1e-9);
  }
});

test('of sampled chunks each has a product after it, and a repetition the median of its', async () => {
  // Three chunks, the repetitions of each one after the other.
  const { figures } = await measured([1, 2, 3, 10, 20, 30, 100, 200, 300], { samples: 2 });
  assert.is(figures.productFlopsPerSecond, 20);
  assert.is(figures.peakBytes, null);
});

test.run();
