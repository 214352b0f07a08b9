/** Kernels on the CPU: their sources, compiled by a C++ compiler behind `emulator/device.h`. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
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
    'static $1 $2[262144];',
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

let root = '';
test.before(() => {
  root = mkdtempSync(join(tmpdir(), 'yoco-emulator-'));
});
test.after(() => {
  rmSync(root, { recursive: true, force: true });
});

const execute = promisify(execFile);

const OPTIONS: readonly string[] = ['-O1', '-std=c++17', '-w', '-U_FORTIFY_SOURCE', '-DSTORAGE=1'];

/** Compiles the standard library's headers that programs include, once for all: they take longer than most programs. @returns the header */
async function precompile(): Promise<string> {
  const header = join(root, 'standard.h');
  const included = readdirSync(emulator).flatMap(
    (name) => readFileSync(join(emulator, name), 'utf8').match(/^#include <.*>$/gm) ?? [],
  );
  writeFileSync(header, [...new Set(included)].join('\n'));
  await execute('g++', [...OPTIONS, '-x', 'c++-header', header]);
  return header;
}

/** Compiles a program in a directory of its own. */
async function build(header: string, name: string, sources: readonly string[]): Promise<string> {
  const directory = join(root, name);
  mkdirSync(directory);
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
  write('hopper.cuh', '#include "common.cuh"\n#include "hopper.h"\n');
  const program = join(directory, name);
  const options = [
    ...OPTIONS,
    '-include',
    header,
    ...(name.startsWith('retention') ? ['-DHEAD=128'] : []),
    '-I',
    directory,
    '-I',
    emulator,
  ];
  await execute('g++', [...options, '-o', program, join(emulator, `${name}.cpp`)]);
  return program;
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

/** The same for whole heads. */
const HOPPER_CASES = [
  [300, 128, 256, 0, 2],
  [130, 256, 128, 9, 1],
  [1000, 64, 64, 0, 2],
  [270, 64, 128, 0, 1],
  [140, 192, 64, 5, 1],
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
  attention_general: {
    title: 'attention of any shape agrees with its definition, causal and not',
    sources: ['attention'],
    compared: ['all keys', 'all keys: sums', 'causal', 'causal: sums', 'positions', 'positions: sums'],
  },
  attention_hopper: {
    title: 'causal attention and its gradients on Hopper agree with their definitions',
    sources: ['attention_hopper', 'attention_hopper_grad'],
    compared: ['64', '128'].flatMap((width) =>
      ['dk', 'dq', 'dv', 'guards', 'out', 'sums'].map((what) => `${width}: ${what}`),
    ).sort(), // prettier-ignore
  },
  coded: {
    title: 'coding of keys and values, and attention over codes, agree with their definitions',
    sources: ['attention_coded', 'attention_coded_forward', 'attention_decode', 'page_code'],
    compared: [
      'float8: many queries', 'float8: one query', 'float8: recorded', 'float8: step', 'int4: many queries', 'int4: one query',
      'int4: recorded', 'int4: step', 'int8: many queries', 'int8: one query', 'int8: recorded', 'int8: step',
    ], // prettier-ignore
  },
  decoding: {
    title: 'the other kernels of a decoding step agree with their definitions',
    sources: ['retention_step', 'rotary', 'page', 'gemv', 'fused'],
    compared: [
      'embedding', 'linear', 'linear: SwiGLU', 'page', 'page: rotated', 'retention', 'retention: rotated', 'retention: state', 'rotary: halves',
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
  gradients: {
    title:
      'gradients of norms and embeddings agree with their definitions, and the products that the gradient of attention begins with',
    sources: ['norm_grad', 'attention_delta', 'embedding_grad'],
    compared: [
      'attention: delta',
      'embedding',
      'norm: any width',
      'norm: gain',
      'norm: narrow',
      'norm: shares',
      'norm: wide',
    ],
  },
  delta: {
    title: 'the gated delta rule and its gates agree with their definitions',
    sources: ['delta', 'delta_chunk'],
    compared: ['chunks', 'chunks: state', 'gates', 'gates: gradients', 'rule', 'rule: state'],
  },
  delta_grad: {
    title: 'the chunkwise gradient of the gated delta rule agrees with its definition',
    sources: ['delta_grad'],
    compared: [
      'gradients: decays', 'gradients: guards', 'gradients: keys', 'gradients: queries', 'gradients: state', 'gradients: strengths',
      'gradients: values',
    ], // prettier-ignore
  },
  float8: {
    title: 'rows in float8 and products of a few of them agree with their definitions',
    sources: ['float8', 'gemv_float8', 'fused', 'norm', 'norm_float8'],
    compared: [
      'linear', 'linear: SwiGLU', 'linear: a NaN', 'linear: residual', 'norm', 'rows', 'rows: SwiGLU', 'values',
    ], // prettier-ignore
  },
  folded: {
    title: 'kernels see a grid that is launched in one dimension as it was meant',
    sources: ['norm'], // for the headers
    compared: ['blocks'],
  },
  linear_swiglu_hopper: {
    title: 'two projections and SwiGLU in one pass on Hopper agree with their definition',
    sources: ['linear_swiglu_hopper'],
    compared: ['bands', 'even', 'few', 'odd'],
  },
  linear_narrow: {
    title: 'projections to few columns and their gradients agree with their definitions',
    sources: ['linear_narrow'],
    compared: ['input gradient', 'input gradient: added', 'projection', 'weight gradient'],
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

/** Programs with checks of their own, and their sources. */
const OTHERS: Readonly<Record<string, readonly string[]>> = {
  retention: ['retention', 'retention_grad'],
  retention_hopper: ['retention_hopper', 'retention_hopper_states', 'retention_grad'],
  training: ['cross_entropy'],
  gemv_chain: ['gemv_chain', 'gemv', 'norm'],
};

/** Every program by its name, compiled two at a time while others run. */
function buildAll(): Map<string, Promise<string>> {
  const sources = Object.entries(PROGRAMS).map(([name, program]) => [name, program.sources] as const);
  const header = precompile();
  const lanes: Promise<unknown>[] = [Promise.resolve(), Promise.resolve()];
  return new Map(
    [...Object.entries(OTHERS), ...sources].map(([name, files], i) => {
      const built = (lanes[i % 2] as Promise<unknown>).then(async () => build(await header, name, files));
      // The test of this program reports a failure.
      lanes[i % 2] = built.catch(() => undefined);
      return [name, built];
    }),
  );
}

if (!hasCompiler) {
  const others = [
    'gated retention and its gradient',
    'gated retention on Hopper',
    'the gradient of the loss',
    'a chain of products',
  ];
  for (const title of [...others, ...Object.values(PROGRAMS).map(({ title }) => title)]) {
    skipBecause('g++ is absent', test, title);
  }
} else {
  let built = new Map<string, Promise<string>>();
  test.before(() => {
    built = buildAll();
  });
  const output = async (name: string, ...args: string[]): Promise<string> => {
    const program = (await built.get(name)) ?? '';
    return (await execute(program, args)).stdout;
  };

  test('gated retention and its gradient agree with the definition', async () => {
    for (const shape of CASES) {
      const error = Number(await output('retention', ...shape.map(String)));
      assert.ok(error <= TOLERANCE, `${shape.join(', ')}: off by ${error}`);
    }
  });

  test('gated retention and its gradient on Hopper agree with the definition', async () => {
    for (const shape of HOPPER_CASES) {
      const error = Number(await output('retention_hopper', ...shape.map(String)));
      assert.ok(error <= TOLERANCE, `${shape.join(', ')}: off by ${error}`);
    }
  });

  test('the gradient of the loss agrees with its definition', async () => {
    const lines = (await output('training')).trim().split('\n');
    assert.is(lines.length, 9);
    for (const line of lines) {
      const [name, error] = line.split('\t');
      assert.ok(Number(error) <= TOLERANCE, `${name}: off by ${error}`);
    }
  });

  test('a chain of products gives what its products and norms give one by one', async () => {
    assert.is(await output('gemv_chain'), '22 cases\n');
  });

  for (const [name, { title, compared, tolerance = TOLERANCE }] of Object.entries(PROGRAMS)) {
    test(title, async () => {
      const lines = (await output(name)).trim().split('\n').map((line) => line.split('\t')); // prettier-ignore
      assert.equal(lines.map(([what]) => what).sort(), compared);
      for (const [what, error] of lines) assert.ok(Number(error) <= tolerance, `${what}: off by ${error}`);
    });
  }
}

test.run();
