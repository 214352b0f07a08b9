/**
 * Compiles the CPU engine's kernels in C, once for each kind of processor that this one may turn out to be: the folder may be moved
 * to another machine. Where there is no C compiler, the engine does without them.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const sources = join(here, '..', 'src', 'engines', 'cpu', 'native', 'sources');
const target = join(here, 'native');

/** What a library needs of the processor, and what the compiler is told. `native/library.ts` chooses by the same names. */
const KINDS = {
  x64: {
    avx512: ['-march=x86-64-v4', '-mprefer-vector-width=512'],
    avx2: ['-march=x86-64-v3'],
  },
  arm64: { neon: [] },
}[process.arch];

const FLAGS = ['-std=gnu11', '-O3', '-fPIC', '-shared', '-fvisibility=hidden', '-fno-math-errno', '-pthread'];

/** Libraries of other sources are never loaded: their names differ. */
function hashOfSources() {
  const hash = createHash('sha256');
  for (const name of readdirSync(sources).sort()) hash.update(readFileSync(join(sources, name)));
  return hash.digest('hex').slice(0, 16);
}

/** @returns why there are no libraries; an empty text where there are */
export function compileKernels() {
  if (KINDS === undefined || !['linux', 'darwin'].includes(process.platform)) return '';
  const files = readdirSync(sources).filter((name) => name.endsWith('.c'));
  const compiler = process.env.CC ?? 'cc';
  mkdirSync(target, { recursive: true });
  const names = Object.keys(KINDS).map((kind) => `yoco-${kind}-${hashOfSources()}.so`);
  for (const name of readdirSync(target)) if (!names.includes(name)) rmSync(join(target, name));
  for (const [i, flags] of Object.values(KINDS).entries()) {
    const path = join(target, names[i]);
    if (existsSync(path)) continue;
    const part = `${path}.part`;
    const options = { cwd: sources, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' };
    const { status, error, stderr } = spawnSync(compiler, [...FLAGS, ...flags, '-o', part, ...files, '-lm'], options); // prettier-ignore
    if (status !== 0) return (error?.message ?? stderr ?? '').trim().split('\n')[0];
    renameSync(part, path);
  }
  return '';
}
