/** The formula of a batch's memory against the account of an allocator: the CUDA engine's, on a device that computes nothing. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../src/engines/cuda/index.js';
import { createConfig, createModel } from '../../src/model/index.js';
import { bytesOfBatch } from '../../src/profiling/batch-size.js';
import { measureEndToEnd } from '../../src/profiling/end-to-end.js';
import { standIn } from '../engines/cuda/stand-in.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('memory of a batch');
test.after(usePlainBackend);

const SHAPE = { dim: 256, layers: 4, hiddenDim: 512, heads: 2, kvHeads: 2, vocabSize: 61 };
const CONFIGS = {
  'gated retention': createConfig({ ...SHAPE, selfHeads: 2 }),
  'sliding window': createConfig({ ...SHAPE, selfHeads: 2, slidingWindow: 64 }),
  transformer: createConfig({ ...SHAPE, architecture: 'transformer' }),
};
/** What recorded steps take whatever their size, and that their memory comes in whole segments. */
const FIXED = 2 ** 24;

for (const [name, config] of Object.entries(CONFIGS)) {
  for (const sampleChunks of [undefined, 2]) {
    test(`${name}, ${sampleChunks ? 'sampled' : 'whole'}`, async () => {
      const on = standIn();
      Object.assign(on.device.driver, { upload: () => undefined, encodeTensorMap: () => undefined });
      const engine = await startOn(on.device);
      const model = createModel(config, { seed: 1 });
      const before = engine.memory().liveBytes;
      const [batch, context] = [40, 4700];
      const work = {
        promptTokens: context - 20,
        generatedTokens: 20,
        batch,
        seed: 1,
        warmUp: 1,
        repetitions: 1,
      };
      let peak = 0;
      engine.resetPeak = () => void (peak = Math.max(peak, engine.memory().peakBytes));
      await measureEndToEnd(model, engine, { ...work, sampleChunks, sampleSteps: 6 });
      peak = Math.max(peak, engine.memory().peakBytes) - before;
      const formula = bytesOfBatch(config, context, batch, 2, sampleChunks !== undefined);
      assert.ok(peak <= formula + FIXED, `${peak} bytes, by formula ${formula}`);
      assert.ok(formula <= 1.5 * peak, `${peak} bytes, by formula ${formula}`);
      model.dispose();
    });
  }
}

test.run();
