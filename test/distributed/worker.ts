/** Run once per rank by a launcher, with an engine's name and perhaps a storage type: checks every collective and prints one line. */
import { ranksOf } from '../../src/distributed/ranks.js';
import type { EngineName, StorageType } from '../../src/engines/engine.js';
import { joinRanks } from '../../src/engines/join.js';
import { startEngine } from '../../src/engines/start.js';
import { checkCollectives, checkPrecision, checkSplit } from './collectives.js';

const ranks = ranksOf(process.env);
if (ranks === null) throw new Error('no rank in the environment');
const [, , name, storage = 'float32'] = process.argv;
const engine = await startEngine(name as EngineName, {
  threads: 1,
  storage: storage as StorageType,
  device: ranks.localRank,
});
const communicator = await joinRanks(engine, ranks);
// Their numbers are exact in 32 bits only.
if (engine.storage === 'float32') {
  checkCollectives(communicator);
  checkSplit(communicator);
}
checkPrecision(communicator);
communicator.barrier();
communicator.close();
process.stdout.write(`rank ${communicator.rank} of ${communicator.size}: ${communicator.description}\n`);
