/** Installing the kernels in C where something is wrong, and choosing among what lies in their folder. */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findLibraries } from '../../../src/engines/cpu/native/files.js';
import { loadNative } from '../../../src/engines/cpu/native/library.js';
import { packageRoot } from '../../../src/package-root.js';
import { skipBecause } from '../../skip.js';

const test = suite('cpu engine: compiled kernels');
const present = findLibraries().paths;
const folders: string[] = [];

/** Like the package, in a folder whose name a shell would split. */
function makePackage(): string {
  const folder = mkdtempSync(join(tmpdir(), 'yoco kernels ä '));
  folders.push(folder);
  const sources = 'src/engines/cpu/native/sources';
  cpSync(join(packageRoot, sources), join(folder, sources), { recursive: true });
  mkdirSync(join(folder, 'runtime'));
  copyFileSync(join(packageRoot, 'runtime/native.js'), join(folder, 'runtime/native.js'));
  symlinkSync(join(packageRoot, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

/** A compiler that fails where its words match `refused`, and otherwise writes a copy of `library`; its path has no spaces. */
function makeCompiler({ library, refused }: { library: string; refused: string }): string {
  const folder = mkdtempSync(join(tmpdir(), 'yoco-cc-'));
  folders.push(folder);
  const path = join(folder, 'cc');
  const lines = [
    '#!/bin/sh',
    `case "$*" in ${refused}) echo "error: unknown word" >&2; exit 1;; esac`,
    'while [ "$1" != -o ]; do shift; done',
    `cp "${library}" "$2"`,
  ];
  writeFileSync(path, lines.join('\n'));
  chmodSync(path, 0o755);
  return path;
}

/** Kinds of processors. */
const compiledIn = (folder: string): (string | undefined)[] =>
  readdirSync(join(folder, 'runtime/native')).map((name) => name.split('-')[1]);

/** @returns what it says is wrong, or how it broke */
async function compileIn(folder: string, compiler: string): Promise<string> {
  const url = pathToFileURL(join(folder, 'runtime/native.js')).href;
  const script = `const { compileKernels } = await import(${JSON.stringify(url)}); process.stdout.write(compileKernels());`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, CC: compiler },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (text += String(data)));
  const status = await new Promise((resolve) => child.once('close', resolve));
  return status === 0 ? text : `status ${String(status)}: ${text}`;
}

function add(title: string, run: (library: string) => void | Promise<void>): void {
  const [library] = present;
  if (library === undefined || process.arch !== 'x64')
    skipBecause('no C compiler when the package was installed', test, title);
  else test(title, () => run(library));
}

add('a compiler may be several words, and need not know every kind of processor', async (library) => {
  const folder = makePackage();
  const compiler = makeCompiler({ library, refused: '*avx512*' });
  assert.is(await compileIn(folder, ` nice -n 0 ${compiler}`), 'error: unknown word');
  assert.equal(compiledIn(folder), ['avx2']);
});

add('a compiler that fails in silence, and one that writes what is no library, are a line', async () => {
  const folder = makePackage();
  assert.is(await compileIn(folder, 'false'), 'false failed');
  const text = join(folder, 'text');
  writeFileSync(text, 'no library');
  assert.match(
    await compileIn(folder, makeCompiler({ library: text, refused: 'nothing' })),
    /^Error: .*(short|header|file)/i,
  );
  assert.equal(compiledIn(folder), []);
});

add(
  'installations at the same time do not disturb each other, and a damaged library is replaced',
  async (library) => {
    const folder = makePackage();
    const compiler = makeCompiler({ library, refused: 'nothing' });
    assert.equal(await Promise.all([1, 2, 3].map(() => compileIn(folder, compiler))), ['', '', '']);
    const names = readdirSync(join(folder, 'runtime/native'));
    assert.is(names.length, 2, names.join());
    const path = join(folder, 'runtime/native', names[0] as string);
    truncateSync(path, 20_000);
    assert.is(await compileIn(folder, compiler), '');
    assert.equal(readFileSync(path), readFileSync(library));
  },
);

add('a folder that cannot be written to is a line', async () => {
  const folder = makePackage();
  // A file in its place stands for a folder of another user: tests may run as one who may write anywhere.
  writeFileSync(join(folder, 'runtime/native'), '');
  assert.match(await compileIn(folder, 'cc'), /^E[A-Z]+: .*native/);
});

/** What is chosen in a folder that holds these files. */
function chosen(files: Readonly<Record<string, Buffer>>): ReturnType<typeof findLibraries> {
  const folder = mkdtempSync(join(tmpdir(), 'yoco-kernels-'));
  folders.push(folder);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return findLibraries(folder);
}

add('libraries that were cut off or are of other sources are not loaded, which is said', (library) => {
  const [name, content] = [basename(library), readFileSync(library)];
  const damaged = chosen({ [name]: content.subarray(0, 20_000) });
  assert.equal(damaged.paths, []);
  assert.match(loadNative(1, damaged).problem ?? '', `${name} is damaged`);
  const other = chosen({ [name.replace(/-[0-9a-f]{16}-/, '-0123456789abcdef-')]: content });
  assert.equal(other, { paths: [], problem: 'they were compiled from other sources' });
  assert.equal(chosen({}), { paths: [], problem: null });
  assert.is(loadNative(1, chosen({ [name]: content })).problem, null);
});

add('where the system refuses one library, the next one is loaded, which is said', (library) => {
  const path = join(mkdtempSync(join(tmpdir(), 'yoco-kernels-')), 'text.so');
  folders.push(join(path, '..'));
  writeFileSync(path, 'no library');
  const next = loadNative(1, { paths: [path, library], problem: null });
  assert.ok(next.native);
  assert.match(next.problem ?? '', 'text.so');
  const { native, problem } = loadNative(1, { paths: [path], problem: null });
  assert.is(native, null);
  assert.match(problem ?? '', 'text.so');
});

add('threads of a library outlive the thread of JavaScript that opened it', async (library) => {
  const koffi = createRequire(import.meta.url).resolve('koffi');
  const code = `
    const opened = require(${JSON.stringify(koffi)}).load(${JSON.stringify(library)});
    const pool = opened.func('void *yoco_pool(int)')(4);
    const x = new Float32Array(1e6);
    opened.func('int yoco_swiglu(void *, void *, void *, void *, long)')(pool, x, x, x, x.length);`;
  const script = `
    const { Worker } = require('node:worker_threads');
    const open = () => new Promise((done) => new Worker(${JSON.stringify(code)}, { eval: true }).once('exit', done));
    open().then(open).then(open).then((status) => process.stdout.write('ended ' + status));`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (data: Buffer) => (text += String(data)));
  const end = await new Promise((resolve) => {
    child.once('close', (status, signal) => {
      resolve(signal ?? status);
    });
  });
  assert.equal([end, text], [0, 'ended 0']);
});

test.after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

test.run();
