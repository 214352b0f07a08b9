/**
 * npm's postinstall: installs ONNX Runtime beside this file, for the cpu engine.
 *
 * The package `onnxruntime-node` has an install script that downloads CUDA libraries from another host and fails where
 * that host is not reached. We need its CPU library only, which the package contains, so it is no dependency of ours but
 * installed here with scripts off. The libraries of other platforms (240 MB) are deleted afterwards.
 *
 * It also compiles the cpu engine's kernels in C (`native.js`).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileKernels } from './native.js';

const here = dirname(fileURLToPath(import.meta.url));
const again = `node ${JSON.stringify(join(here, 'install.js'))}`;
const binaries = join(here, 'node_modules', 'onnxruntime-node', 'bin', 'napi-v6');

/** Settings of the npm command that called us must not lead its own somewhere else. */
const FLAGS = [
  '--ignore-scripts',
  '--global=false',
  '--dry-run=false',
  '--workspaces=false',
  '--no-audit',
  '--no-fund',
  '--loglevel=error',
];

/** The same npm that called us, or the one on the path where another package manager did. */
function npm(...words) {
  const { npm_execpath: program = '' } = process.env;
  const options = { cwd: here, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' };
  return program.endsWith('npm-cli.js')
    ? spawnSync(process.execPath, [program, ...words], options)
    : spawnSync('npm', words, { ...options, shell: process.platform === 'win32' });
}

function removeOtherPlatforms() {
  for (const platform of readdirSync(binaries)) {
    for (const arch of readdirSync(join(binaries, platform))) {
      if (platform === process.platform && arch === process.arch) continue;
      rmSync(join(binaries, platform, arch), { recursive: true, force: true });
    }
  }
}

/** Whether an earlier install has left the version asked for. */
function isInstalled() {
  const read = (path) => JSON.parse(readFileSync(path, 'utf8'));
  const installed = join(here, 'node_modules', 'onnxruntime-node', 'package.json');
  return (
    existsSync(join(binaries, process.platform, process.arch)) &&
    read(installed).version === read(join(here, 'package.json')).dependencies['onnxruntime-node']
  );
}

function install() {
  const { status, stderr, error } = npm('ci', ...FLAGS);
  if (status === 0 && existsSync(binaries)) {
    removeOtherPlatforms();
    return;
  }
  const reason = (error?.message ?? stderr ?? '').trim().split('\n')[0];
  process.stderr.write(
    `yoco: ONNX Runtime could not be installed, without it the cpu engine is slow (${reason}); to try again: ${again}\n`,
  );
}

if (!isInstalled()) install();

const problem = compileKernels();
if (problem !== '')
  process.stderr.write(
    `yoco: the cpu engine's kernels in C could not be compiled, without them it is slower (${problem}); to try again: ${again}\n`,
  );
