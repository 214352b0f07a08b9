/**
 * Every CUDA source compiles for what it is launched with, where NVIDIA's compiler is installed: as the library that the engine
 * uses (`CUDA_PATH` may name where it is), or else as a tool.
 */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type CompileRequest, openCompiler } from '../../../src/engines/cuda/nvrtc.js';
import { kernelDefines, kernelSource } from '../../../src/engines/cuda/sources.js';
import type { StorageType } from '../../../src/engines/engine.js';
import { RunError } from '../../../src/errors.js';
import { skipBecause } from '../../skip.js';

type Architecture = 'sm_80' | 'sm_90a';
type Variant = readonly [StorageType, Architecture, head?: number];

/** Every storage and both architectures, each once or twice. */
const PLAIN: readonly Variant[] = [
  ['float32', 'sm_80'],
  ['bfloat16', 'sm_90a'],
  ['float16', 'sm_80'],
];
/** Sources for 16-bit storage and head widths. */
const NARROW: readonly Variant[] = [
  ['bfloat16', 'sm_80', 32],
  ['float16', 'sm_90a', 64],
  ['bfloat16', 'sm_90a', 128],
];
const WIDE: readonly Variant[] = [...NARROW, ['float16', 'sm_80', 256]];
/** A compressed cache is for bfloat16. */
const CODED: readonly Variant[] = [
  ['bfloat16', 'sm_80', 32],
  ['bfloat16', 'sm_90a', 128],
];
const HOPPER: readonly Variant[] = [
  ['bfloat16', 'sm_90a', 64],
  ['bfloat16', 'sm_90a', 128],
  ['float16', 'sm_90a', 128],
];
const HOPPER_ONLY: readonly Variant[] = [
  ['bfloat16', 'sm_90a'],
  ['float16', 'sm_90a'],
];
const FLOAT8: readonly Variant[] = [['float32', 'sm_90a'], ...HOPPER_ONLY];
const SIXTEEN_BITS: readonly Variant[] = [
  ['bfloat16', 'sm_90a'],
  ['float16', 'sm_80'],
];
const VARIANTS: Readonly<Partial<Record<string, readonly Variant[]>>> = {
  attention: WIDE,
  attention_coded: CODED,
  attention_coded_forward: CODED,
  attention_decode: NARROW,
  attention_delta: WIDE,
  attention_hopper: HOPPER,
  attention_hopper_grad: HOPPER,
  delta: WIDE,
  delta_chunk: NARROW,
  delta_grad: NARROW,
  float8: FLOAT8,
  gemv_chain: HOPPER_ONLY,
  gemv_float8: FLOAT8,
  linear_narrow: SIXTEEN_BITS,
  norm_float8: FLOAT8,
  linear_swiglu_hopper: HOPPER_ONLY,
  page_code: CODED,
  retention: NARROW,
  retention_grad: NARROW,
  retention_hopper: HOPPER,
  retention_hopper_states: HOPPER_ONLY,
  retention_step: WIDE,
};

const folder = new URL('../../../src/engines/cuda/sources/', import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith('.cu')).map((name) => name.slice(0, -3)); // prettier-ignore

type Compile = (request: CompileRequest) => Promise<void>;

/** By nvcc, in a directory that is there for as long. */
async function compileByTool({
  name,
  source,
  headers,
  architecture,
  defines,
}: CompileRequest): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'yoco-cuda-'));
  try {
    const file = join(directory, name);
    writeFileSync(file, source);
    for (const [header, text] of Object.entries(headers)) writeFileSync(join(directory, header), text);
    const target = `-gencode=arch=${architecture.replace('sm', 'compute')},code=${architecture}`;
    // Only acceptance matters, but ptxas says which `wgmma` it serialises where it optimises, and only if it is to say much.
    const level = name.includes('hopper') ? ['-Xptxas', '-v'] : ['-Xcicc', '-O0', '-Xptxas', '-O0'];
    const options = [target, '-std=c++17', ...level, '-cubin', '-o', `${file}.bin`];
    const macros = Object.entries(defines).map(([macro, value]) => `-D${macro}=${value}`);
    const { stderr } = await promisify(execFile)('nvcc', [...options, ...macros, file]);
    assert.not.match(stderr, /warning|error|serialized/);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** NVRTC, else nvcc, or why there is neither. */
function findCompiler(): Compile | string {
  try {
    const compiler = openCompiler();
    return (request) => {
      assert.ok(compiler.compile(request).length > 0);
      return Promise.resolve();
    };
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    if (spawnSync('nvcc', ['--version']).status === 0) return compileByTool;
    return `nvcc is absent and ${error.message}`;
  }
}

const test = suite('cuda sources');
const compile = findCompiler();

for (const name of names) {
  const title = `${name}.cu compiles`;
  if (typeof compile === 'string') skipBecause(compile, test, title);
  else {
    test(title, async () => {
      const source = kernelSource(name);
      // All at once: there are few, and a compiler is one thread.
      await Promise.all(
        (VARIANTS[name] ?? PLAIN).map(([storage, architecture, head]) => {
          const defines = kernelDefines(name, storage, head);
          return compile({ name: `${name}.cu`, ...source, architecture, defines });
        }),
      );
    });
  }
}

const folded = 'a source compiles for a grid that is launched in one dimension';
if (typeof compile === 'string') skipBecause(compile, test, folded);
else {
  test(folded, async () => {
    const folds: Record<string, number>[] = [{ FOLD_X: 3 }, { FOLD_X: 3, FOLD_Y: 5 }];
    for (const fold of folds) {
      const defines = { ...kernelDefines('reduce', 'bfloat16'), ...fold };
      await compile({ name: 'reduce.cu', ...kernelSource('reduce'), architecture: 'sm_90a', defines });
    }
  });
}

test('no source has what NVRTC takes for a host function', () => {
  for (const name of readdirSync(folder)) {
    const text = readFileSync(new URL(name, folder), 'utf8');
    assert.not.match(text, /\][ ]*\([^()]*\bauto\b/, `${name}: a lambda with auto among its parameters`);
  }
});

test.run();
