/**
 * The engine's own kernels in C (`sources/`), which `runtime/native.js` compiles when the package is installed. Without them, and with
 * `YOCO_NATIVE=off`, ONNX Runtime computes what they would.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type koffiModule from 'koffi';
import { packageRoot } from '../../../package-root.js';
import { processorFlags } from '../../../processor.js';
import { koffiIsLoaded } from '../../exit.js';

/** The sources stay where they are written: the same relative path from `src/` and from `dist/`. */
const SOURCES = fileURLToPath(new URL('../../../../src/engines/cpu/native/sources/', import.meta.url));

/** Arguments after the pool of threads, by a letter each: memory, int, float or double. All return whether memory was missing. */
const FUNCTIONS = {
  product: 'mmmmiiiii',
  swiglu: 'mmmi',
  swiglu_grad: 'mmmmmi',
  rms_norm: 'mmmiif',
  rms_norm_grad: 'mmmmmiif',
  adamw: 'mmmmiddddddd',
  attention: 'mmmmiiiiiiiif',
  attention_grad: 'mmmmmmmmiiiiiiif',
  few_rows: 'mmmmiii',
  paged_attention: 'mmmmiiiiiiif',
  retention: 'mmmmmmiiiiii',
  retention_step: 'mmmmmmiiii',
  rotary: 'mmmmiiiiii',
} as const;

const TYPES: Readonly<Record<string, string>> = { m: 'void *', i: 'int', f: 'float', d: 'double' };

type Argument = number | NodeJS.TypedArray | null;

/** Every function throws where there is no memory for it. Their comments are in the sources. */
export type Native = Readonly<Record<keyof typeof FUNCTIONS, (...args: readonly Argument[]) => void>> & {
  /** Where an array lies. */
  readonly address: (array: Float32Array) => bigint;
};

/** koffi closes a library that is collected, and does not see that its threads still run. */
const open: unknown[] = [];

/** Null where there is no library for this processor, or the system does not load it. */
export function loadNative(threads: number): Native | null {
  const path = libraryPath();
  try {
    return path === null ? null : load(path, threads);
  } catch {
    return null;
  }
}

function load(path: string, threads: number): Native | null {
  const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
  koffiIsLoaded(koffi);
  const library = koffi.load(path);
  open.push(library);
  const pool = library.func('yoco_pool', 'void *', ['int'])(threads) as unknown;
  if (pool === null) return null;
  const functions = Object.entries(FUNCTIONS).map(([name, letters]) => {
    const types = ['void *', ...Array.from(letters, (letter) => TYPES[letter] as string)];
    const call = library.func(`yoco_${name}`, 'int', types) as (...args: unknown[]) => number;
    const checked = (...args: readonly Argument[]): void => {
      if (call(pool, ...args) !== 0) throw new Error(`out of memory in ${name}`);
    };
    return [name, checked];
  });
  const address = (array: Float32Array): bigint => koffi.address(array);
  return { ...(Object.fromEntries(functions) as Omit<Native, 'address'>), address };
}

/** Whether kernels of these sources were compiled for this processor. */
export function nativeIsCompiled(): boolean {
  return libraryPath() !== null;
}

/** The best that this processor can run, of these sources. */
function libraryPath(): string | null {
  const folder = join(packageRoot, 'runtime', 'native');
  if (!existsSync(folder) || !existsSync(SOURCES)) return null;
  const hash = createHash('sha256');
  for (const name of readdirSync(SOURCES).sort()) hash.update(readFileSync(join(SOURCES, name)));
  const suffix = hash.digest('hex').slice(0, 16);
  const paths = kinds().map((kind) => join(folder, `yoco-${kind}-${suffix}.so`));
  return paths.find((path) => existsSync(path)) ?? null;
}

/** Names in `runtime/native.js`, the fastest first. */
function kinds(): string[] {
  if (process.arch === 'arm64') return ['neon'];
  if (process.arch !== 'x64') return [];
  const flags = processorFlags();
  const has = (...names: string[]) => names.every((name) => flags.has(name));
  const avx2 = has('avx2', 'fma', 'f16c', 'bmi1', 'bmi2', 'movbe');
  const avx512 = avx2 && has('avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl');
  return [...(avx512 ? ['avx512'] : []), ...(avx2 ? ['avx2'] : [])];
}
