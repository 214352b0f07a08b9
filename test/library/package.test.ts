/** The packed package as a program sees it that has installed it: types, entry points, and the example of docs/library.md. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { packageRoot } from '../../src/package-root.js';
import { scratchDirectory } from '../checkpoint/scratch.js';

const test = suite('the packed library');
const at = scratchDirectory(test);

const run = (command: string, argv: readonly string[], cwd: string): string =>
  execFileSync(command, argv, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** Unpacks the package where a program in `consumer/` finds it, and beside it what it depends on. */
function install(): string {
  run(process.execPath, ['scripts/build.js'], packageRoot);
  // A build that is up to date is left alone: a command may be running from it.
  const built = statSync(join(packageRoot, 'dist', 'index.js'));
  run(process.execPath, ['scripts/build.js'], packageRoot);
  assert.is(statSync(join(packageRoot, 'dist', 'index.js')).ino, built.ino);
  const packed = run(
    'npm',
    ['pack', '--ignore-scripts', '--silent', '--pack-destination', at('.')],
    packageRoot,
  );
  mkdirSync(at('consumer/node_modules/yoco'), { recursive: true });
  const target = at('consumer/node_modules/yoco');
  run('tar', ['-xzf', at(packed.trim()), '--strip-components=1', '-C', target], packageRoot);
  symlinkSync(join(packageRoot, 'node_modules'), at('node_modules'));
  writeFileSync(at('consumer/package.json'), '{ "type": "module" }');
  return at('consumer');
}

/** Compiles like a careful user's project does. @returns the complaints about each file */
function compile(directory: string, ...files: string[]): string[][] {
  const paths = files.map((file) => join(directory, file));
  const program = ts.createProgram(paths, {
    strict: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ['node'],
    typeRoots: [join(packageRoot, 'node_modules', '@types')],
    skipLibCheck: true,
  });
  program.emit();
  return paths.map((path) =>
    ts
      .getPreEmitDiagnostics(program, program.getSourceFile(path))
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')),
  );
}

test('the example of docs/library.md compiles with strict types and runs', () => {
  const directory = install();
  const page = readFileSync(join(packageRoot, 'docs', 'library.md'), 'utf8');
  const [, example = ''] = /```ts\n([\s\S]*?)```/.exec(page) ?? [];
  writeFileSync(join(directory, 'example.ts'), example);
  writeFileSync(
    join(directory, 'wrong.ts'),
    "import { profilePrefill } from 'yoco';\nvoid profilePrefill({ models: [], contexts: [1], earlyExit: ['on'] });\n",
  );
  const [complaints, wrong] = compile(directory, 'example.ts', 'wrong.ts');
  assert.equal(complaints, []);
  // The types are those of the library, not `any`.
  assert.match(wrong?.join('\n') ?? '', /'string' is not assignable to type 'boolean'/);
  const lines = run(process.execPath, ['example.js'], directory).trimEnd().split('\n');
  assert.equal(lines, [
    'logits 1 x 20 x 264',
    'cached 21 tokens, next logits 1 x 264',
    'generated 8 tokens true',
    'likelihoods true',
    'parameters 3445303296 K/V bytes a token 4096',
    'yoco 8 GiB',
    'transformer 640 GiB',
    'once again',
  ]);

  // Nothing but the entry points can be imported.
  assert.throws(
    () => run(process.execPath, ['-e', "import('yoco/dist/cli/main.js')"], directory),
    /ERR_PACKAGE_PATH_NOT_EXPORTED/,
  );
});

test.run();
