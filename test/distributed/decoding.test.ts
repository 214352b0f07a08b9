/** Decoding over MPI processes by steps that they record together. */
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { program } from '../cli/program.js';
import { mpirun, mpiTest } from './mpirun.js';

const test = suite('distributed: decoding');
const worker = fileURLToPath(new URL('decoding-worker.ts', import.meta.url));

for (const size of [2, 3]) {
  mpiTest(test, `${size} ranks begin and end recordings together`, async () => {
    const { code, stdout, stderr } = await mpirun(size, [...(await program(worker)), 'cpu']);
    assert.is(code, 0, stderr);
    assert.is(stdout.match(/recorded steps as computed/g)?.length, size);
  });
}

test.run();
