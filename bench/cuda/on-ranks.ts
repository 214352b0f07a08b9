/** Starts a benchmark once for each GPU: `node --import tsx bench/cuda/on-ranks.ts RANKS bench/cuda/NAME.ts DIRECTORY …`. */
import { launchRanks } from '../../src/distributed/launch.js';

const [, , count = '', script = '', ...args] = process.argv;
const ranks = Number(count);
if (!(Number.isInteger(ranks) && ranks > 0 && script !== '')) {
  process.stderr.write('bench/cuda/on-ranks.ts takes the number of ranks, a script and its arguments\n');
  process.exit(2);
}
const { exitCode } = await launchRanks({
  ranks,
  transport: 'nccl',
  command: [process.execPath, '--import', import.meta.resolve('tsx'), script, ...args],
  environment: process.env,
});
process.exitCode = exitCode;
