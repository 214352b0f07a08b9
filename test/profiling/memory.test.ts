import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Engine } from '../../src/engines/engine.js';
import { createConfig, createModel } from '../../src/model/index.js';
import { measureMemory } from '../../src/profiling/memory.js';
import { stubEngine } from '../evaluation/stub-model.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('measured memory');
test.before(usePlainBackend);

const config = createConfig({
  architecture: 'yoco',
  dim: 16,
  layers: 2,
  hiddenDim: 16,
  heads: 2,
  vocabSize: 11,
});

async function measure(engine: Engine): Promise<unknown[]> {
  const model = createModel(config, { seed: 1 });
  const loaded = { choice: { name: 'small', config }, model, foreignBytes: 0, weightBytes: 0 };
  const row = await measureMemory(loaded, engine, { context: 8, chunkSize: 4, seed: 1, fill: false });
  model.dispose();
  return [row.reservedPeakBytes, row.deviceUsedBytes];
}

test("a device's figures are those of the cell: cached memory goes back first, then the peak begins", async () => {
  const calls: string[] = [];
  const figures = await measure({
    ...stubEngine,
    resetPeak: () => calls.push('reset'),
    deviceMemory: {
      trim: () => calls.push('trim'),
      read: () => {
        calls.push('read');
        return { reservedPeakBytes: 300, usedBytes: 400 };
      },
    },
  });
  assert.equal(figures, [300, 400]);
  assert.equal(calls, ['trim', 'reset', 'read']);
});

test('an engine without a device leaves the columns empty', async () => {
  assert.equal(await measure(stubEngine), [null, null]);
});

test.run();
