/** What storage in 16 bits implies for kernels: errors that GPUs have shown where little is left of large numbers. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { TOLERANCE } from '../relative-error.js';
import { CASES } from './cases.js';
import { impliedError } from './runner.js';

const test = suite('errors that storage implies');

/** [case, gradient, storage, error on an H200 with the inputs of the case] */
const SHOWN = [
  ['gatedDeltaRule, 1x1x1x1x1 from a state', 0, 'bfloat16', 0.0111],
  ['gatedDeltaRule, 1x1x1x1x1 from a state', 0, 'float16', 0.0015],
  ['stateSpaceDual, 1x130x4/2x24x16', 5, 'bfloat16', 0.049],
  ['stateSpaceDual, 1x130x4/2x24x16', 5, 'float16', 0.0122],
] as const;

const caseOf = (name: string) => {
  const found = CASES.find((item) => item.name === name);
  if (found === undefined) throw new Error(`no case ${name}`);
  return found;
};

for (const [name, gradient, storage, shown] of SHOWN) {
  test(`${name}, gradient ${gradient}, ${storage}`, async () => {
    const implied = await impliedError(caseOf(name), 'gradient', gradient, storage);
    assert.ok(implied > shown && implied < 8 * shown, `${implied}, shown ${shown}`);
  });
}

test('where nothing cancels it is a few roundings, below the usual tolerance', async () => {
  for (const [name, gradient] of [
    ['gatedDeltaRule, 1x1x1x1x1 from a state', 2],
    ['stateSpaceDual, 1x130x4/2x24x16', 0],
  ] as const) {
    for (const storage of ['bfloat16', 'float16', 'float32'] as const) {
      const implied = await impliedError(caseOf(name), 'gradient', gradient, storage);
      assert.ok(implied < TOLERANCE[storage], `${name}, ${storage}: ${implied}`);
      assert.is(implied > 0, storage !== 'float32');
    }
  }
});

test.run();
