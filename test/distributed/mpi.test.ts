import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { program } from '../cli/program.js';
import { mpirun, mpiTest } from './mpirun.js';

const test = suite('distributed: MPI');
const worker = fileURLToPath(new URL('worker.ts', import.meta.url));

for (const size of [2, 4]) {
  mpiTest(test, `the collectives of ${size} ranks`, async () => {
    const { code, stdout, stderr } = await mpirun(size, [...(await program(worker)), 'cpu']);
    assert.is(code, 0, stderr);
    const ranks = stdout.match(/rank \d+ of \d+/g) ?? [];
    assert.equal(
      ranks.sort(),
      Array.from({ length: size }, (_, rank) => `rank ${rank} of ${size}`),
    );
  });
}

mpiTest(test, 'ranks that MPI does not know are refused', async () => {
  const environment = { WORLD_SIZE: '3', RANK: '1' };
  const { code, stderr } = await mpirun(1, [...(await program(worker)), 'cpu'], environment);
  assert.is.not(code, 0);
  assert.match(stderr, /says rank 1 of 3, but MPI says rank 0 of 1/);
});

test.run();
