/** Every CUDA source compiles, where NVIDIA's compiler is installed. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { kernelSource } from '../../../src/engines/cuda/device.js';
import { skipBecause } from '../../skip.js';

const test = suite('cuda sources');
const folder = new URL('../../../src/engines/cuda/sources/', import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith('.cu')).map((name) => name.slice(0, -3)); // prettier-ignore
/** Sources that only exist for 16-bit storage. */
const HALF_PRECISION_ONLY = new Set([
  'attention',
  'attention_decode',
  'attention_hopper',
  'attention_hopper_grad',
  'retention',
  'retention_grad',
  'retention_step',
]);
const hasCompiler = spawnSync('nvcc', ['--version']).status === 0;

async function compile(directory: string, name: string, storage: number): Promise<void> {
  const file = join(directory, `${name}.cu`);
  writeFileSync(file, kernelSource(name));
  // Hopper with its own instructions; little optimisation, since only acceptance matters.
  const target = ['-gencode=arch=compute_90a,code=sm_90a', '-std=c++17', '-Xcicc', '-O1', '-Xptxas', '-O1'];
  const { stderr } = await promisify(execFile)('nvcc', [
    ...target,
    `-DSTORAGE=${storage}`,
    '-cubin',
    '-o',
    `${file}.bin`,
    file,
  ]);
  assert.not.match(stderr, /warning|error/);
}

for (const name of names) {
  const storage = HALF_PRECISION_ONLY.has(name) ? 1 : 0;
  if (!hasCompiler) skipBecause('nvcc is absent', test, `${name}.cu compiles`);
  else {
    test(`${name}.cu compiles`, async () => {
      const directory = mkdtempSync(join(tmpdir(), 'yoco-cuda-'));
      try {
        await compile(directory, name, storage);
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    });
  }
}

test.run();
