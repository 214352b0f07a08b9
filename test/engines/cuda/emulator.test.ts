/** Tensor-core kernels on the CPU: gated retention's sources, compiled by a C++ compiler behind `emulator/device.h`. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { kernelSource } from '../../../src/engines/cuda/device.js';

const test = suite('cuda kernels, emulated');
const sources = new URL('../../../src/engines/cuda/sources/', import.meta.url);
const [common, barriers] = ['common', 'barrier'].map((name) =>
  readFileSync(new URL(`${name}.cuh`, sources), 'utf8'),
) as [string, string];
const emulator = fileURLToPath(new URL('emulator/', import.meta.url));
const hasCompiler = process.platform === 'linux' && spawnSync('g++', ['--version']).status === 0;
const TOLERANCE = 1e-2;

/** The fragment loaders of common.cuh, which are plain C++. */
function fragmentLoaders(): string {
  const start = common.indexOf('DEVICE void load_a(');
  return common.slice(start, common.lastIndexOf('#endif'));
}

/** A kernel source as a header, behind `device.h` instead of common.cuh and barrier.cuh: dynamic shared memory is an array. */
function header(directory: string, name: string): void {
  const text = kernelSource(name).slice(common.length).replace(barriers, '');
  const plain = text.replace(
    /extern __shared__ (?:__align__\(16\) )?(\w+) (\w+)\[\];/g,
    'static $1 $2[131072];',
  );
  assert.not.match(plain, /extern __shared__/);
  writeFileSync(join(directory, `${name}.h`), plain);
}

function build(directory: string, name: string, headers: readonly string[], defines: string[] = []): string {
  for (const source of headers) header(directory, source);
  writeFileSync(join(directory, 'fragments.h'), fragmentLoaders());
  const program = join(directory, name);
  const options = [
    '-O1',
    '-std=c++17',
    '-w',
    '-U_FORTIFY_SOURCE',
    '-DSTORAGE=1',
    ...defines,
    '-I',
    emulator,
    '-I',
    directory,
  ];
  execFileSync('g++', [...options, '-o', program, join(emulator, `${name}.cpp`)]);
  return program;
}

/** Runs `work` in a directory of its own. */
function inDirectory(work: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'yoco-emulator-'));
  try {
    work(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** [positions, key width, value width]: one block, several blocks, few positions, odd widths. */
const CASES = [
  [70, 136, 24],
  [130, 40, 64],
  [3, 24, 136],
] as const;

/** What `decoding.cpp` compares. */
const COMPARED = [
  'attention', 'attention: recorded', 'attention: rotated', 'attention: sums', 'linear', 'linear: SwiGLU', 'loss', 'loss: a NaN shows',
  'loss: float32', 'norm: any width', 'norm: gated', 'norm: narrow', 'norm: wide', 'page', 'page: rotated', 'retention',
  'retention: rotated', 'retention: state', 'rotary: halves', 'rotary: neighbours',
]; // prettier-ignore

/** What `optimizer.cpp` compares. */
const OPTIMIZED = [
  'adamw', 'adamw: no finite norm', 'adamw: storage and guards', 'norm', 'scale', 'scale: within the limit',
]; // prettier-ignore

if (!hasCompiler) {
  test.skip('gated retention and its gradient (g++ is absent)');
  test.skip('the kernels of a decoding step, norms and losses (g++ is absent)');
  test.skip('the gradient of the loss (g++ is absent)');
  test.skip('a chain of products (g++ is absent)');
  test.skip('the optimizer over many tensors (g++ is absent)');
} else {
  test('gated retention and its gradient agree with the definition', () => {
    inDirectory((directory) => {
      const program = build(directory, 'retention', ['retention', 'retention_grad'], ['-DHEAD=128']);
      for (const shape of CASES) {
        const error = Number(execFileSync(program, shape.map(String), { encoding: 'utf8' }));
        assert.ok(error <= TOLERANCE, `${shape.join(', ')}: off by ${error}`);
      }
    });
  });

  test('the kernels of a decoding step, norms and losses agree with their definitions', () => {
    inDirectory((directory) => {
      const headers = [
        'attention_decode',
        'retention_step',
        'norm',
        'rotary',
        'page',
        'cross_entropy',
        'linear',
      ];
      const lines = execFileSync(build(directory, 'decoding', headers), { encoding: 'utf8' })
        .trim()
        .split('\n');
      const errors = new Map(lines.map((line) => line.split('\t') as [string, string]));
      assert.equal([...errors.keys()].sort(), COMPARED);
      for (const [name, error] of errors) assert.ok(Number(error) <= TOLERANCE, `${name}: off by ${error}`);
    });
  });

  test('the gradient of the loss agrees with its definition', () => {
    inDirectory((directory) => {
      const output = execFileSync(build(directory, 'training', ['cross_entropy']), {
        encoding: 'utf8',
      });
      const lines = output.trim().split('\n');
      assert.is(lines.length, 9);
      for (const line of lines) {
        const [name, error] = line.split('\t');
        assert.ok(Number(error) <= TOLERANCE, `${name}: off by ${error}`);
      }
    });
  });

  test('a chain of products gives what its products and norms give one by one', () => {
    inDirectory((directory) => {
      const headers = ['chain', 'linear', 'norm'];
      assert.is(execFileSync(build(directory, 'chain', headers), { encoding: 'utf8' }), '22 cases\n');
    });
  });

  test('the optimizer over many tensors agrees with its definition', () => {
    inDirectory((directory) => {
      const output = execFileSync(build(directory, 'optimizer', ['optimizer']), { encoding: 'utf8' });
      const lines = output.trim().split('\n');
      assert.equal(lines.map((line) => line.split('\t')[0]).sort(), OPTIMIZED);
      for (const line of lines) {
        const [name, error] = line.split('\t');
        // Everything is computed in float32.
        assert.ok(Number(error) <= 1e-4, `${name}: off by ${error}`);
      }
    });
  });
}

test.run();
