/**
 * The engine's own kernels in C (`sources/`), which `runtime/native.js` compiles when the package is installed. Without them, and with
 * `YOCO_NATIVE=off`, ONNX Runtime computes what they would.
 */
import { createRequire } from 'node:module';
import type koffiModule from 'koffi';
import { koffiIsLoaded } from '../../exit.js';
import { findLibraries } from './files.js';

/** Arguments after the pool of threads, by a letter each: memory, int, long, float or double. All return whether memory was missing. */
const FUNCTIONS = {
  product: 'mmmmiiiii',
  sum_of_squares: 'mml',
  swiglu: 'mmml',
  swiglu_grad: 'mmmmml',
  rms_norm: 'mmmiif',
  rms_norm_grad: 'mmmmmiif',
  adamw: 'mmmmlddddddd',
  attention: 'mmmmiiiiiiiif',
  attention_grad: 'mmmmmmmmiiiiiiif',
  coded_attention: 'mmmmmmmmiiiiiiiiif',
  cross_entropy: 'mmmmmii',
  embedding_grad: 'mmmiiif',
  few_rows: 'mmmmiii',
  large_pages: 'ml',
  paged_attention: 'mmmmiiiiiiif',
  retention: 'mmmmmmiiiiii',
  retention_grad: 'mmmmmmmmmmmmiiiiii',
  retention_step: 'mmmmmmiiii',
  rotary: 'mmmmiiiiii',
  round_float8: 'mmii',
} as const;

const TYPES: Readonly<Record<string, string>> = { m: 'void *', i: 'int', l: 'long', f: 'float', d: 'double' };

type Argument = number | NodeJS.TypedArray | null;

/** Every function throws where there is no memory for it. Their comments are in the sources. */
export type Native = Readonly<Record<keyof typeof FUNCTIONS, (...args: readonly Argument[]) => void>> & {
  /** Where an array lies. */
  readonly address: (array: Float32Array | Int32Array) => bigint;
};

export interface LoadedNative {
  readonly native: Native | null;
  /** Why there is none, or a slower one, although others were compiled for this processor. */
  readonly problem: string | null;
}

/** The best of them that loads. */
export function loadNative(threads: number, libraries = findLibraries()): LoadedNative {
  const problems = libraries.problem === null ? [] : [libraries.problem];
  for (const path of libraries.paths) {
    try {
      return { native: load(path, threads), problem: problems[0] ?? null };
    } catch (error) {
      problems.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { native: null, problem: problems[0] ?? null };
}

function load(path: string, threads: number): Native {
  const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
  koffiIsLoaded(koffi);
  const library = koffi.load(path);
  const pool = library.func('yoco_pool', 'void *', ['int'])(threads) as unknown;
  if (pool === null) throw new Error(`no ${threads} threads`);
  const functions = Object.entries(FUNCTIONS).map(([name, letters]) => {
    const types = ['void *', ...Array.from(letters, (letter) => TYPES[letter] as string)];
    const call = library.func(`yoco_${name}`, 'int', types) as (...args: unknown[]) => number;
    const checked = (...args: readonly Argument[]): void => {
      if (call(pool, ...args) !== 0) throw new Error(`out of memory in ${name}`);
    };
    return [name, checked];
  });
  const address = (array: Float32Array | Int32Array): bigint => koffi.address(array);
  return { ...(Object.fromEntries(functions) as Omit<Native, 'address'>), address };
}
