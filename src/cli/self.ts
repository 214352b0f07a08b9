import { join } from 'node:path';
import { packageRoot } from '../package-root.js';

/** Program and arguments that start this command line in another process, from the sources or the built code as here. */
export function selfCommand(): [string, ...string[]] {
  return import.meta.url.endsWith('.ts')
    ? [process.execPath, '--import', import.meta.resolve('tsx'), join(packageRoot, 'bin', 'dev.js')]
    : [process.execPath, join(packageRoot, 'bin', 'run.js')];
}
