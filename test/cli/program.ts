/** How tests start the command line, and programs of their own, in another process. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { packageRoot } from '../../src/package-root.js';

/** The words after `node` before a TypeScript file. */
const SOURCE: readonly string[] = ['--import', import.meta.resolve('tsx')];

const isBuilt = spawnSync(process.execPath, [join(packageRoot, 'scripts/build.js'), '--check']).status === 0;

/**
 * The words after `node` that run the command line: as it was built, which starts in half the time, where the build is that of
 * the present sources.
 */
export const YOCO: readonly string[] = isBuilt
  ? [join(packageRoot, 'bin/run.js')]
  : [...SOURCE, join(packageRoot, 'bin/dev.js')];

/** The words after `node` before a script that imports `moduleUrl(...)`. */
export const SCRIPT: readonly string[] = [...(isBuilt ? [] : SOURCE), '--input-type=module', '-e'];

/** What such a script imports for a module of `src/`, which is given without its ending. */
export const moduleUrl = (module: string): string =>
  pathToFileURL(join(packageRoot, isBuilt ? `dist/${module}.js` : `src/${module}.ts`)).href;

/** Modules of `src/` are those of the build, where they are. */
const overBuild: Plugin = {
  name: 'over-build',
  setup(over) {
    over.onResolve({ filter: /^\.{1,2}\// }, ({ path, resolveDir }) => {
      const module = relative(join(packageRoot, 'src'), resolve(resolveDir, path));
      if (module.startsWith('..')) return undefined;
      return { path: pathToFileURL(join(packageRoot, 'dist', module)).href, external: true };
    });
  },
};

/** In the checkout, where packages are found. */
const bundles = join(packageRoot, '.cache', `tests-${process.pid}`);
process.once('exit', () => {
  rmSync(bundles, { recursive: true, force: true });
});

const bundled = new Map<string, Promise<string>>();

async function bundle(file: string): Promise<string> {
  const outfile = join(bundles, `${basename(file, '.ts')}.mjs`);
  const options = { bundle: true, format: 'esm', platform: 'node', packages: 'external' } as const;
  await build({ ...options, entryPoints: [file], outfile, plugins: [overBuild] });
  return outfile;
}

/**
 * The words after `node` that run a TypeScript file of `test/`: as one file over the build, which starts in half the time, where
 * the build is that of the present sources.
 */
export async function program(file: string): Promise<readonly string[]> {
  if (!isBuilt) return [...SOURCE, file];
  const found = bundled.get(file) ?? bundle(file);
  bundled.set(file, found);
  return [await found];
}
