/**
 * Compiles the CPU engine's kernels in C, once for each kind of processor that this one may turn out to be: the folder may be moved
 * to another machine. Where there is no C compiler, the engine does without them.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(import.meta.url);
const here = dirname(script);
const sources = join(here, '..', 'src', 'engines', 'cpu', 'native', 'sources');
const target = join(here, 'native');

/** As `-march=x86-64-v3` and `-v4`, which GCC knows from 11 on. */
const AVX2 = '-mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt -mmovbe -mpopcnt -mcx16 -msahf'.split(' ');
const AVX512 = [...AVX2, ...'-mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl'.split(' ')];

/** What a library needs of the processor, and what the compiler is told. `native/files.ts` chooses by the same names. */
const KINDS = {
  x64: { avx512: [...AVX512, '-mprefer-vector-width=512'], avx2: AVX2 },
  arm64: { neon: [] },
}[process.arch];

const FLAGS = [
  '-std=gnu11',
  '-O3',
  '-falign-functions=64',
  '-falign-loops=64',
  '-fPIC',
  '-shared',
  '-fvisibility=hidden',
  '-fno-math-errno',
  '-pthread',
];

/** Folders of an installation that was killed are removed after so long; those of others at work stay. */
const ABANDONED_MS = 3_600_000;

const hashOf = (...contents) => {
  const hash = createHash('sha256');
  for (const content of contents) hash.update(content);
  return hash.digest('hex').slice(0, 16);
};

/** Libraries of other sources, or compiled in another way, are never loaded: their names differ. `native/files.ts` computes the same. */
function hashOfSources() {
  const names = readdirSync(sources).filter((name) => /\.[ch]$/.test(name));
  const paths = [...names.sort().map((name) => join(sources, name)), script];
  return hashOf(...paths.map((path) => readFileSync(path)));
}

/** Libraries as they were compiled: the last part of a name is the hash of what is in the file. */
function isWhole(name) {
  return name.endsWith(`-${hashOf(readFileSync(join(target, name)))}.so`);
}

const libraries = () => readdirSync(target).filter((name) => name.endsWith('.so'));

const firstLine = (text) => text.trim().split('\n')[0];

/** @returns why there are no libraries, or not all; an empty text where there are */
export function compileKernels() {
  if (KINDS === undefined || !['linux', 'darwin'].includes(process.platform)) return '';
  try {
    mkdirSync(target, { recursive: true });
    const prefixes = Object.keys(KINDS).map((kind) => `yoco-${kind}-${hashOfSources()}-`);
    const problems = Object.values(KINDS).map((flags, i) => compile(prefixes[i], flags));
    removeOthers(prefixes);
    return problems.find((problem) => problem !== '') ?? '';
  } catch (error) {
    return firstLine(error.message);
  }
}

/** In a folder of its own, so that installations may run at the same time. @returns why there is no library */
function compile(prefix, flags) {
  if (libraries().some((name) => name.startsWith(prefix) && isWhole(name))) return '';
  const folder = mkdtempSync(join(target, 'part-'));
  try {
    const part = join(folder, 'library.so');
    const files = readdirSync(sources).filter((name) => name.endsWith('.c'));
    const [compiler, ...words] = (process.env.CC?.trim() || 'cc').split(/\s+/);
    const problem =
      run(compiler, [...words, ...FLAGS, ...flags, '-o', part, ...files, '-lm', '-ldl'], sources) ||
      // A compiler for another machine: better said now than when the engine starts.
      run(process.execPath, ['-e', 'require("koffi").load(process.argv[1])', part], here);
    if (problem === '') renameSync(part, join(target, `${prefix}${hashOf(readFileSync(part))}.so`));
    return problem;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @returns why it failed */
function run(program, words, cwd) {
  const options = { cwd, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' };
  const { status, error, stderr } = spawnSync(program, words, options);
  if (status === 0) return '';
  const lines = (stderr ?? '').split('\n');
  const line = lines.find((text) => /error/i.test(text)) ?? lines.find((text) => text.trim() !== '');
  return error?.message ?? line?.trim() ?? `${program} failed`;
}

function removeOthers(prefixes) {
  for (const name of libraries())
    if (!prefixes.some((prefix) => name.startsWith(prefix)) || !isWhole(name))
      rmSync(join(target, name), { force: true });
  for (const name of readdirSync(target).filter((each) => each.startsWith('part-'))) {
    const made = statSync(join(target, name), { throwIfNoEntry: false })?.mtimeMs ?? Infinity;
    if (Date.now() - made > ABANDONED_MS) rmSync(join(target, name), { recursive: true, force: true });
  }
}
