/**
 * What `bin/` calls. Help, which people ask for most, is printed from files made by the build; everything else loads the
 * command line proper.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../package-root.js';

/** Columns that prebuilt help takes; for a narrower terminal help is made anew. */
export const HELP_COLUMNS = 80;
/** Name of the list of commands among the help texts. */
export const ROOT_HELP = 'root';

/** Where `npm run build` leaves the help of a command. */
export const helpFile = (name: string): string => join(packageRoot, 'dist', 'help', `${name}.txt`);

/** Platform and Node as oclif writes them: what differs between the machine that built and the one that runs. */
export const platform = (): string => `${process.platform}-${process.arch} node-${process.version}`;
export const PLATFORM_MARK = '{platform}';

/** The help text that a command line asks for and nothing else; null where it asks for something else. */
export function helpAskedFor(argv: readonly string[]): string | null {
  const [first = '--help', second, ...more] = argv;
  if (more.length > 0) return null;
  const isHelp = (word?: string): boolean => word === '--help' || word === 'help';
  if (second === undefined) return isHelp(first) ? ROOT_HELP : null;
  const name = first === 'help' ? second : second === '--help' ? first : '';
  return /^[a-z][a-z-]*$/.test(name) && !isHelp(name) ? name : null;
}

function readHelp(name: string): string | null {
  try {
    return readFileSync(helpFile(name), 'utf8').replace(PLATFORM_MARK, platform());
  } catch {
    // Not built, built by hand, or no command: oclif makes the same text, or says what is wrong.
    return null;
  }
}

export async function start({ development = false } = {}): Promise<void> {
  const name = helpAskedFor(process.argv.slice(2));
  const isNarrow = process.stdout.isTTY && process.stdout.columns < HELP_COLUMNS;
  const help = name === null || development || isNarrow ? null : readHelp(name);
  if (help !== null) {
    process.stdout.write(help);
    return;
  }
  const { run } = await import('./main.js');
  await run({ development });
}
