/** Tensor-core kernels on the CPU: gated retention's sources, compiled by a C++ compiler behind `emulator/device.h`. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('cuda kernels, emulated');
const sources = new URL('../../../src/engines/cuda/sources/', import.meta.url);
const emulator = fileURLToPath(new URL('emulator/', import.meta.url));
const hasCompiler = process.platform === 'linux' && spawnSync('g++', ['--version']).status === 0;
const TOLERANCE = 1e-2;

/** The fragment loaders of common.cuh, which are plain C++. */
function fragmentLoaders(): string {
  const text = readFileSync(new URL('common.cuh', sources), 'utf8');
  return text.slice(text.indexOf('DEVICE void load_a('), text.indexOf('DEVICE void copy_async('));
}

function build(directory: string, head: number): string {
  const kernel = readFileSync(new URL('retention.cu', sources), 'utf8');
  const dynamic = 'extern __shared__ __align__(16) scalar tiles[];';
  assert.ok(kernel.includes(dynamic));
  writeFileSync(join(directory, 'retention.h'), kernel.replace(dynamic, 'static scalar tiles[65536];'));
  writeFileSync(join(directory, 'fragments.h'), fragmentLoaders());
  const program = join(directory, `retention-${head}`);
  const options = [
    '-O1',
    '-std=c++17',
    '-w',
    '-DSTORAGE=1',
    `-DHEAD=${head}`,
    '-I',
    emulator,
    '-I',
    directory,
  ];
  execFileSync('g++', [...options, '-o', program, join(emulator, 'retention.cpp')]);
  return program;
}

/** [padded head width, positions, key width, value width]: one block, several blocks, few positions, odd widths. */
const CASES = [
  [128, 70, 136, 24],
  [128, 130, 40, 64],
  [128, 3, 24, 136],
] as const;

if (!hasCompiler) test.skip('gated retention and its gradient (g++ is absent)');
else {
  test('gated retention and its gradient agree with the definition', () => {
    const directory = mkdtempSync(join(tmpdir(), 'yoco-emulator-'));
    try {
      const programs = new Map<number, string>();
      for (const [head, ...shape] of CASES) {
        const program = programs.get(head) ?? build(directory, head);
        programs.set(head, program);
        const error = Number(execFileSync(program, shape.map(String), { encoding: 'utf8' }));
        assert.ok(error <= TOLERANCE, `${shape.join(', ')}: off by ${error}`);
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
}

test.run();
