import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { costs } from '../../src/model/costs.js';
import { createConfig, createModel } from '../../src/model/index.js';
import { GrowingContext } from '../../src/profiling/throughput.js';
import { leakedTensors, usePlainBackend } from '../plain-backend.js';

const test = suite('growing context');
test.before(usePlainBackend);

const config = createConfig({
  architecture: 'transformer',
  dim: 16,
  layers: 2,
  hiddenDim: 16,
  heads: 2,
  vocabSize: 11,
});
const options = { longest: 40, decoded: 2, seed: 1, fill: false };

test('what a longer context needs leaves out the keys and values that are there', () => {
  const perToken = costs(config).keyValueBytesPerToken(4);
  const leaked = leakedTensors(() => {
    const model = createModel(config, { seed: 1 });
    const context = new GrowingContext(model, options);
    const long = context.bytesToReach(40, 4);
    assert.ok(long > 40 * perToken);
    context.reach(10).dispose();
    assert.is(context.bytesToReach(40, 4), long - 10 * perToken);
    context.dispose();
    model.dispose();
  });
  assert.is(leaked, 0);
});

test.run();
