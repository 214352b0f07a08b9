/**
 * The command line's one way in: finds the command, runs it, and turns whatever goes wrong into one line on
 * stderr and an exit status (0 done, 1 failed, 2 wrong usage).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Config, Plugin } from '@oclif/core/config';
import { run as runOclif } from '@oclif/core/run';
import { packageRoot } from '../package-root.js';
import { describeFailure } from './failure.js';

type PackageJson = Plugin['pjson'];

/**
 * oclif's configuration. In development the commands are the TypeScript sources, found by looking, whatever manifest
 * an earlier build has left.
 */
export async function loadConfig(development: boolean): Promise<Config> {
  const pjson = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as PackageJson;
  if (development) pjson.oclif = { ...pjson.oclif, commands: './src/commands' };
  const plugin = new Plugin({ root: packageRoot, pjson, ignoreManifest: development, isRoot: true });
  await plugin.load();
  return Config.load({ root: packageRoot, pjson, plugins: new Map([[plugin.name, plugin]]) });
}

/** Runs `argv` and returns the exit status; failures have been written to stderr by then. */
export async function execute(argv: string[], config: Config): Promise<number> {
  const before = process.exitCode;
  process.exitCode = 0;
  try {
    await runOclif(argv, config);
    return process.exitCode;
  } catch (error) {
    const { message, exitCode } = describeFailure(error, config.commandIDs);
    if (message) process.stderr.write(`${message}\n`);
    return exitCode;
  } finally {
    process.exitCode = before;
  }
}

/** What `bin/` calls. */
export async function run({ development = false } = {}): Promise<void> {
  // A reader that has seen enough (`yoco … | head`) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  process.exitCode = await execute(process.argv.slice(2), await loadConfig(development));
}
