import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { chooseShipped } from '../../src/sweep/shipped.js';
import { makeCheckpoint, SMALL } from '../checkpoint/checkpoints.js';
import { scratchDirectory } from '../checkpoint/scratch.js';

const test = suite('sweep/shipped');
const at = scratchDirectory(test);

test('without a named model the trained one is taken where it is there, with one never', async () => {
  await makeCheckpoint(at('language'), SMALL.retention ?? {});
  const options = { checkpoints: at('.'), defaultPreset: 'nano' };
  const names = (...given: Parameters<typeof chooseShipped>): string[] =>
    chooseShipped(...given).map(({ name, checkpoint }) => `${name}${checkpoint ? ' trained' : ''}`);
  assert.equal(names('language', {}, options), ['language trained']);
  assert.equal(names('needle-general', {}, options), ['nano'], 'the npm package does not have all');
  assert.equal(names('language', { presets: ['pico'] }, options), ['pico']);
  assert.equal(names('language', { architectures: ['transformer'] }, options), ['nano']);
});

test.run();
