/**
 * Builds `dist/` from `src/`, beside the present one, and then puts it in its place: a command that is at work (npx builds
 * whenever it runs a command of a checkout) finds its modules at every moment. Where the sources have not changed since the
 * last build, nothing is done.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => join(root, ...parts);
const require = createRequire(import.meta.url);

function sourceHash() {
  const sources = readdirSync(at('src'), { recursive: true })
    .map((name) => join('src', name))
    .filter((name) => statSync(at(name)).isFile());
  const hash = createHash('sha256');
  for (const name of [...sources.sort(), 'package.json', 'tsconfig.json', 'tsconfig.build.json']) {
    hash.update(`${name}\0`).update(readFileSync(at(name)));
  }
  return hash.digest('hex');
}

const STAMP = 'build.sha256';
const isBuilt = (hash) =>
  existsSync(at('oclif.manifest.json')) &&
  existsSync(at('dist', STAMP)) &&
  readFileSync(at('dist', STAMP), 'utf8') === hash;

const run = (...words) => execFileSync(process.execPath, words, { cwd: root, stdio: 'inherit' });

function build(hash) {
  const [fresh, old] = [`dist-${process.pid}`, `dist-${process.pid}-old`];
  try {
    run(require.resolve('typescript/bin/tsc'), '-p', 'tsconfig.build.json', '--outDir', fresh);
    if (existsSync(at('dist'))) renameSync(at('dist'), at(old));
    renameSync(at(fresh), at('dist'));
  } finally {
    for (const left of [fresh, old]) rmSync(at(left), { recursive: true, force: true });
  }
  run(at('dist', 'cli', 'manifest.js'));
  writeFileSync(at('dist', STAMP), hash);
}

const hash = sourceHash();
if (!isBuilt(hash)) build(hash);
