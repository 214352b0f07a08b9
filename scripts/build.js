/**
 * Builds `dist/` from `src/` beside the present one and then replaces it file by file: a command at work (npx builds
 * whenever it runs a command of a checkout) finds its modules at every moment. Where the sources have not changed since the
 * last build, nothing is done.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
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

const filesIn = (directory) =>
  readdirSync(directory, { recursive: true }).filter((name) => statSync(join(directory, name)).isFile());

/** Moves every file of `fresh` over the one in dist/, then removes those that are no longer built. */
function replace(fresh) {
  const files = filesIn(at(fresh));
  for (const name of files) {
    mkdirSync(dirname(at('dist', name)), { recursive: true });
    renameSync(at(fresh, name), at('dist', name));
  }
  // The next step of the build replaces the texts of help.
  const isKept = (name) => files.includes(name) || dirname(name) === 'help';
  for (const name of filesIn(at('dist'))) if (!isKept(name)) rmSync(at('dist', name), { force: true });
}

function build(hash) {
  const fresh = `dist-${process.pid}`;
  try {
    const compile = (project, ...words) => {
      run(require.resolve('typescript/bin/tsc'), '-p', project, '--outDir', fresh, ...words);
    };
    compile('tsconfig.build.json');
    // What runs in a browser has the browser's types.
    compile('src/report/live/browser', '--noEmit', 'false', '--declaration', 'false');
    replace(fresh);
  } finally {
    rmSync(at(fresh), { recursive: true, force: true });
  }
  run(at('dist', 'cli', 'manifest.js'));
  writeFileSync(at('dist', STAMP), hash);
}

const hash = sourceHash();
// With --check it only says by its exit status whether the build is that of the sources.
if (process.argv.includes('--check')) process.exitCode = isBuilt(hash) ? 0 : 1;
else if (!isBuilt(hash)) build(hash);
