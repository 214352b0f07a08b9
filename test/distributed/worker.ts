/** Run once per rank by a launcher, with an engine's name: checks every collective and prints one line. */
import { ranksOf } from '../../src/distributed/ranks.js';
import type { EngineName } from '../../src/engines/engine.js';
import { joinRanks } from '../../src/engines/join.js';
import { startEngine } from '../../src/engines/start.js';
import { checkCollectives, checkSplit } from './collectives.js';

const ranks = ranksOf(process.env);
if (ranks === null) throw new Error('no rank in the environment');
const engine = await startEngine(process.argv[2] as EngineName, {
  threads: 1,
  storage: 'float32',
  device: ranks.localRank,
});
const communicator = await joinRanks(engine, ranks);
checkCollectives(communicator);
checkSplit(communicator);
communicator.barrier();
communicator.close();
process.stdout.write(`rank ${communicator.rank} of ${communicator.size}: ${communicator.description}\n`);
