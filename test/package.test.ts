import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { packageDirectory, packageRoot } from '../src/package-root.js';

const test = suite('package');

interface Packed {
  size: number;
  files: { path: string }[];
}

/** What `npm pack` would put into the tarball of the package as it lies here. */
function packed(): Packed {
  const words = ['pack', '--dry-run', '--json', '--ignore-scripts', '--loglevel=error'];
  const text = execFileSync('npm', words, {
    cwd: packageRoot,
    encoding: 'utf8',
    shell: process.platform === 'win32',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const value = JSON.parse(text) as Packed[] | Record<string, Packed>;
  const [first] = Object.values(value);
  assert.ok(first);
  return first;
}

interface Manifest {
  dependencies: Record<string, string>;
  scripts: Record<string, string>;
}

const readManifest = (path: string): Manifest =>
  JSON.parse(readFileSync(join(packageRoot, path), 'utf8')) as Manifest;

test('the tarball is small and holds what commands read, and no results', () => {
  const { size, files } = packed();
  const paths = files.map(({ path }) => path);
  assert.ok(size < 16e6, `${size} bytes`);
  assert.equal(
    paths.filter((path) => /^(results|runs|test|bench|node_modules)\/|\/node_modules\//.test(path)),
    [],
  );
  assert.equal(
    paths.filter(
      (path) => path.startsWith('checkpoints/') && !/^checkpoints\/(README\.md$|needle-general\/)/.test(path),
    ),
    [],
    'other checkpoints are larger',
  );
  for (const path of [
    'bin/run.js',
    'checkpoints/needle-general/model.safetensors',
    'data/yoco-sample/subjects.json',
    'experiments/laptop.json',
    'experiments/needle/recipe.json',
    'experiments/h200-reference.csv',
    'runtime/install.js',
    'runtime/native.js',
    'src/engines/cpu/native/sources/pool.c',
    'runtime/package.json',
    'runtime/package-lock.json',
  ]) {
    assert.ok(paths.includes(path), path);
  }
});

test('ONNX Runtime is installed by our script, not by a dependency whose own script needs another host', () => {
  const { dependencies, scripts } = readManifest('package.json');
  assert.not.ok('onnxruntime-node' in dependencies);
  assert.is(scripts.postinstall, 'node runtime/install.js');
  const lock = readFileSync(join(packageRoot, 'package-lock.json'), 'utf8');
  assert.not.match(lock, /"node_modules\/onnxruntime-node"/);
  const expected = readManifest('runtime/package.json').dependencies['onnxruntime-node'];
  const directory = packageDirectory('onnxruntime-node');
  assert.ok(directory !== null && existsSync(directory));
  const { version } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as {
    version: string;
  };
  assert.is(version, expected);
});

test.run();
