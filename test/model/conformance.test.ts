/** Both architectures against the official PyTorch code (`../shared/fixtures`), in float32. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { usePlainBackend } from '../plain-backend.js';
import { sharedTest } from '../shared.js';
import { relativeError } from '../ops/relative-error.js';
import { type Accuracy, type Kind, SCHEDULES, checkCase } from './official.js';

/** Of the largest difference, and of gradients of the norm of the difference, relative to the gradient's. */
const TOLERANCE: Readonly<Record<Kind, number>> = {
  logits: 1e-4,
  losses: 1e-4,
  loss: 1e-5,
  hidden: 1e-4,
  state: 1e-4,
  gradient: 1e-4,
  'gradient norm': 1e-3,
  'decay gradient': 1e-4,
  'decay gradient norm': 1e-3,
};

const FLOAT32: Accuracy = {
  check(found, expected, kind, name) {
    const error = kind.includes('gradient')
      ? relativeError(found, expected)
      : largestDifference(found, expected);
    assert.ok(error <= TOLERANCE[kind], `${name}: off by ${error}`);
  },
  lead: 0,
};

function largestDifference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs((found[i] as number) - (expected[i] as number));
    worst = Math.max(worst, Number.isNaN(difference) ? Infinity : difference);
  }
  return worst;
}

const test = suite('model: official fixtures');
test.before(usePlainBackend);

for (const [name, schedules] of Object.entries(SCHEDULES)) {
  const title = `${name}: logits, loss, gradients, states, greedy decoding`;
  sharedTest(test, `fixtures/${name}`, title, (directory) => {
    checkCase(directory, schedules, FLOAT32);
  });
}

test.run();
