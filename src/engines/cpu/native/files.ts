/** Which compiled library of kernels in C to load: `runtime/native.js` says how their names are made. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../../package-root.js';
import { processorFlags } from '../../../processor.js';

/** The sources stay where they are written: the same relative path from `src/` and from `dist/`. */
const SOURCES = fileURLToPath(new URL('../../../../src/engines/cpu/native/sources/', import.meta.url));
const RUNTIME = join(packageRoot, 'runtime');

export interface Libraries {
  /** The fastest first. */
  readonly paths: readonly string[];
  /** Why the fastest that was compiled for this processor is not among them; null where none was compiled. */
  readonly problem: string | null;
}

/** Libraries of these sources, as the compiler wrote them, that this processor can run; `folder`: where they lie. */
export function findLibraries(folder = join(RUNTIME, 'native')): Libraries {
  const compiled = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.so')) : [];
  const forThis = kinds().flatMap((kind) => compiled.filter((name) => name.startsWith(`yoco-${kind}-`)));
  if (forThis.length === 0 || !existsSync(SOURCES)) return { paths: [], problem: null };
  const sources = `-${hashOfSources()}-`;
  const present = forThis.filter((name) => name.includes(sources)).map((name) => join(folder, name));
  if (present.length === 0) return { paths: [], problem: 'they were compiled from other sources' };
  const paths = present.filter(isWhole);
  return { paths, problem: paths[0] === present[0] ? null : `${present[0] as string} is damaged` };
}

const hashOf = (...contents: readonly Buffer[]): string => {
  const hash = createHash('sha256');
  for (const content of contents) hash.update(content);
  return hash.digest('hex').slice(0, 16);
};

function hashOfSources(): string {
  const names = readdirSync(SOURCES).filter((name) => /\.[ch]$/.test(name));
  const paths = [...names.sort().map((name) => join(SOURCES, name)), join(RUNTIME, 'native.js')];
  return hashOf(...paths.map((path) => readFileSync(path)));
}

/** Loading a file that was cut off would kill the process. */
function isWhole(path: string): boolean {
  return path.endsWith(`-${hashOf(readFileSync(path))}.so`);
}

/** Names in `runtime/native.js`, the fastest first. */
function kinds(): string[] {
  if (process.arch === 'arm64') return ['neon'];
  if (process.arch !== 'x64') return [];
  const flags = processorFlags();
  const has = (...names: string[]) => names.every((name) => flags.has(name));
  const avx2 = has('avx2', 'fma', 'f16c', 'bmi1', 'bmi2', 'abm', 'movbe');
  const avx512 = avx2 && has('avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl');
  return [...(avx512 ? ['avx512'] : []), ...(avx2 ? ['avx2'] : [])];
}
