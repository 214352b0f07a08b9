/** Runs the command line; the last rank kills itself as soon as a file exists: `dying-rank.ts FILE COMMAND …`. */
import { existsSync } from 'node:fs';
import { execute, loadConfig } from '../../src/cli/main.js';
import { ranksOf } from '../../src/distributed/ranks.js';

const [file = '', ...argv] = process.argv.slice(2);
const ranks = ranksOf(process.env);

function watch(): void {
  if (existsSync(file)) process.kill(process.pid, 'SIGKILL');
  setImmediate(watch);
}

if (ranks !== null && ranks.rank === ranks.size - 1) watch();
process.exitCode = await execute(argv, await loadConfig({ development: import.meta.url.endsWith('.ts') }));
