/** How tests start the command line in a process of its own. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../../src/package-root.js';

/** The words after `node` before a TypeScript file. */
export const SOURCE: readonly string[] = ['--import', import.meta.resolve('tsx')];

const isBuilt = spawnSync(process.execPath, [join(packageRoot, 'scripts/build.js'), '--check']).status === 0;

/**
 * The words after `node` that run the command line: as it was built, which starts in half the time, where the build is that of
 * the present sources.
 */
export const YOCO: readonly string[] = isBuilt
  ? [join(packageRoot, 'bin/run.js')]
  : [...SOURCE, join(packageRoot, 'bin/dev.js')];
