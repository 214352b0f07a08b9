/** Kernels on the CPU: their sources, compiled by a C++ compiler behind `emulator/device.h`. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { kernelDefines, kernelSource } from '../../../src/engines/cuda/sources.js';
import { skipBecause } from '../../skip.js';

const test = suite('cuda kernels, emulated');
const emulator = fileURLToPath(new URL('emulator/', import.meta.url));
const hasCompiler = process.platform === 'linux' && spawnSync('g++', ['--version']).status === 0;
const TOLERANCE = 1e-2;

/** Headers that stay what they are; the others are included once in each namespace that a program has. */
const ONCE = new Set(['types.cuh', 'common.cuh']);

/** What a source defines; in one program every source begins anew. */
const MACROS = /^#define (\w+)/gm;

/** A source or header for the emulator: dynamic shared memory is an array, and what it defines replaces what others did. */
function emulated(name: string, text: string, defines: Readonly<Record<string, number>> = {}): string {
  const plain = text.replace(
    /extern __shared__ (?:__align__\(\d+\) )?(\w+) (\w+)\[\];/g,
    'static $1 $2[131072];',
  );
  assert.not.match(plain, /extern __shared__/);
  if (ONCE.has(name)) return plain;
  const given = Object.entries(defines).map(
    ([macro, value]) => `#undef ${macro}\n#define ${macro} ${value}\n`,
  );
  // `HEAD` is the program's choice.
  const own = plain
    .replace('#pragma once\n', '')
    .replace(MACROS, (line, macro: string) => (macro === 'HEAD' ? line : `#undef ${macro}\n${line}`));
  return given.join('') + own;
}

function build(
  directory: string,
  name: string,
  sources: readonly string[],
  defines: readonly string[] = [],
): string {
  const write = (file: string, text: string): void => {
    writeFileSync(join(directory, file), text);
  };
  for (const file of sources) {
    const { source, headers } = kernelSource(file);
    for (const [header, text] of Object.entries(headers)) write(header, emulated(header, text));
    const { STORAGE, ...tiles } = kernelDefines(file, 'bfloat16');
    assert.is(STORAGE, 1);
    write(`${file}.cu`, emulated(`${file}.cu`, source, tiles));
  }
  for (const header of ['ptx.cuh', 'mbarrier.cuh']) write(header, '#include "device.h"\n');
  const program = join(directory, name);
  const options = [
    '-O1',
    '-std=c++17',
    '-w',
    '-U_FORTIFY_SOURCE',
    '-DSTORAGE=1',
    ...defines,
    '-I',
    directory,
    '-I',
    emulator,
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

/**
 * [positions, key width, value width, positions of which the last forgets everything, heads with one query and key]: one block, several blocks, few positions,
 * odd widths.
 */
const CASES = [
  [70, 136, 24, 0, 1],
  [130, 40, 64, 0, 2],
  [3, 24, 136, 0, 1],
  [150, 24, 16, 9, 2],
  [140, 16, 16, 2, 1],
] as const;

interface Program {
  title: string;
  sources: readonly string[];
  /** Names of what it compares, in order. */
  compared: readonly string[];
  tolerance?: number;
}

/** Programs that print the error of each name. */
const PROGRAMS: Readonly<Record<string, Program>> = {
  attention: {
    title: 'attention of a few queries agrees with its definition',
    sources: ['attention_decode'],
    compared: ['attention', 'attention: recorded', 'attention: rotated', 'attention: sums'],
  },
  coded: {
    title: 'coding of keys and values, and attention over codes, agree with their definitions',
    sources: ['attention_coded', 'page_code'],
    compared: [
      'float8: many queries', 'float8: one query', 'float8: step', 'int4: many queries', 'int4: one query', 'int4: step',
      'int8: many queries', 'int8: one query', 'int8: step',
    ], // prettier-ignore
  },
  decoding: {
    title: 'the other kernels of a decoding step agree with their definitions',
    sources: ['retention_step', 'rotary', 'page', 'gemv'],
    compared: [
      'linear', 'linear: SwiGLU', 'page', 'page: rotated', 'retention', 'retention: rotated', 'retention: state', 'rotary: halves',
      'rotary: neighbours', 'state space',
    ], // prettier-ignore
  },
  reductions: {
    title: 'norms and losses agree with their definitions',
    sources: ['norm', 'cross_entropy'],
    compared: [
      'loss', 'loss: a NaN shows', 'loss: float32', 'norm: any width', 'norm: gated', 'norm: narrow', 'norm: wide',
    ], // prettier-ignore
  },
  convolution: {
    title: 'the short convolution and its gradient agree with their definitions',
    sources: ['short_convolution'],
    compared: ['bias', 'inputs', 'output', 'slope', 'state', 'taps'],
  },
  delta: {
    title: 'the gated delta rule and its gates agree with their definitions',
    sources: ['delta'],
    compared: ['gates', 'gates: gradients', 'rule', 'rule: state'],
  },
  optimizer: {
    title: 'the optimizer over many tensors agrees with its definition',
    sources: ['optimizer'],
    compared: [
      'adamw', 'adamw: no finite norm', 'adamw: storage and guards', 'norm', 'scale', 'scale: within the limit',
    ], // prettier-ignore
    tolerance: 1e-4, // everything is computed in float32
  },
};

if (!hasCompiler) {
  const others = ['gated retention and its gradient', 'the gradient of the loss', 'a chain of products'];
  for (const title of [...others, ...Object.values(PROGRAMS).map(({ title }) => title)]) {
    skipBecause('g++ is absent', test, title);
  }
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

  for (const [name, program] of Object.entries(PROGRAMS)) {
    test(program.title, () => {
      const { compared, tolerance = TOLERANCE } = program;
      inDirectory((directory) => {
        const output = execFileSync(build(directory, name, program.sources), { encoding: 'utf8' });
        const lines = output.trim().split('\n').map((line) => line.split('\t')); // prettier-ignore
        assert.equal(lines.map(([what]) => what).sort(), compared);
        for (const [what, error] of lines) assert.ok(Number(error) <= tolerance, `${what}: off by ${error}`);
      });
    });
  }

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
      const sources = ['gemv_chain', 'gemv', 'norm'];
      assert.is(execFileSync(build(directory, 'gemv_chain', sources), { encoding: 'utf8' }), '22 cases\n');
    });
  });
}

test.run();
