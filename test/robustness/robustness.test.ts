import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { fuzz } from './fuzz.js';
import { killLoop } from './kill.js';

const test = suite('robustness');

test('mutated files are read or refused in one line', async () => {
  const { inputs, failures } = await fuzz({ milliseconds: 1500, seed: 7 });
  assert.equal(failures, []);
  assert.ok(inputs > 100, `only ${inputs} inputs`);
});

test('runs that are killed leave the same bytes when run again', async () => {
  const { differences } = await killLoop({ random: 1, renames: 2 });
  assert.equal(differences, []);
});

test.run();
