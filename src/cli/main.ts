/**
 * The command line's one way in: finds the command, runs it, and turns whatever goes wrong into one line on
 * stderr and an exit status (0 done, 1 failed, 2 wrong usage).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import chalk, { chalkStderr } from 'chalk';
import { Config, Plugin } from '@oclif/core/config';
import { run as runOclif } from '@oclif/core/run';
import { MARK_LINES, rankMark } from '../distributed/ranks.js';
import { skipExitHandlers } from '../engines/exit.js';
import { packageRoot } from '../package-root.js';
import { describeFailure } from './failure.js';
import { markLines, watchStreams } from './streams.js';

interface LoadOptions {
  development: boolean;
  ignoreManifest?: boolean;
}

/**
 * The commands as oclif knows them. In development they are the TypeScript sources, found by looking, whatever
 * manifest an earlier build has left.
 */
export async function loadPlugin({
  development,
  ignoreManifest = development,
}: LoadOptions): Promise<Plugin> {
  const pjson = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as Plugin['pjson'];
  if (development)
    pjson.oclif = { ...pjson.oclif, commands: './src/commands', helpClass: './src/cli/help.ts' };
  const options = { root: packageRoot, pjson, ignoreManifest, errorOnManifestCreate: true, isRoot: true };
  const plugin = new Plugin(options);
  await plugin.load();
  return plugin;
}

export function configOf(plugin: Plugin): Promise<Config> {
  return Config.load({ root: packageRoot, pjson: plugin.pjson, plugins: new Map([[plugin.name, plugin]]) });
}

export const loadConfig = async (options: LoadOptions): Promise<Config> =>
  configOf(await loadPlugin(options));

/** `help train` asks for the same as `train --help`. */
const helpFirst = ([first = '', ...words]: string[]): string[] =>
  first === 'help' ? [...words, '--help'] : [first, ...words];

/** Runs `argv` and returns the exit status; failures have been written to stderr by then. */
export async function execute(argv: string[], config: Config): Promise<number> {
  const before = process.exitCode;
  process.exitCode = 0;
  try {
    await runOclif(helpFirst(argv), config);
    return process.exitCode;
  } catch (error) {
    const { message, exitCode } = describeFailure(error, config.commandIDs);
    if (message) process.stderr.write(`${message}\n`);
    return exitCode;
  } finally {
    process.exitCode = before;
  }
}

/** What Open MPI's mpirun does to the streams of a process. */
function underMpirun(): void {
  const rank = process.env.OMPI_COMM_WORLD_RANK;
  if (rank === undefined) return;
  // It gives each process a terminal as stdout, even where its own stdout is a file.
  if (!process.env.FORCE_COLOR) chalk.level = 0;
  if (process.env[MARK_LINES]) markLines(process.stderr, rankMark(Number(rank)));
}

/** Runs the command line of this process. */
export async function run({ development = false } = {}): Promise<void> {
  // https://no-color.org: bold and dim are colors in that sense; chalk does not know the variable.
  if (process.env.NO_COLOR) chalk.level = chalkStderr.level = 0;
  underMpirun();
  skipExitHandlers();
  const statusOf = watchStreams();
  const status = await execute(process.argv.slice(2), await loadConfig({ development }));
  process.exitCode = statusOf(status);
}
