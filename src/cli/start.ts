/**
 * What `bin/` calls. The list of commands, which people ask for most, is printed from a file made by the build;
 * everything else loads the command line proper.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../package-root.js';

/** Where `npm run build` leaves the root help. */
export const ROOT_HELP = join(packageRoot, 'dist', 'help.txt');

/** Platform and Node as oclif writes them: what differs between the machine that built and the one that runs. */
export const platform = (): string => `${process.platform}-${process.arch} node-${process.version}`;
export const PLATFORM_MARK = '{platform}';

function readRootHelp(): string | null {
  try {
    return readFileSync(ROOT_HELP, 'utf8').replace(PLATFORM_MARK, platform());
  } catch {
    // Not built, or built by hand: oclif makes the same text.
    return null;
  }
}

export async function start({ development = false } = {}): Promise<void> {
  const [first = '--help', ...rest] = process.argv.slice(2);
  const wantsHelp = rest.length === 0 && ['--help', 'help'].includes(first);
  const help = wantsHelp && !development ? readRootHelp() : null;
  if (help !== null) {
    process.stdout.write(help);
    return;
  }
  const { run } = await import('./main.js');
  await run({ development });
}
