/** Sequences divided over MPI processes: reading, decoding, losses and gradients are those of one process. */
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { mpirun, mpiTest } from './mpirun.js';

const test = suite('distributed: sequences');
const worker = fileURLToPath(new URL('sequence-worker.ts', import.meta.url));

/** Four ranks on layouts that talk in every way: states, windows, attention of all to all, keys that others read. */
const SIZES: readonly (readonly [size: number, names: readonly string[]])[] = [
  [2, []],
  [4, ['gated retention', 'sliding window', 'transformer', 'cla3']],
];

for (const [size, names] of SIZES) {
  mpiTest(test, `${size} ranks compute what one computes`, async () => {
    const { code, stdout, stderr } = await mpirun(size, [worker, 'plain', ...names]);
    assert.is(code, 0, stderr);
    assert.is(stdout.match(/: as one/g)?.length, size);
  });
}

test.run();
