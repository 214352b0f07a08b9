/** What the CUDA benchmarks share: the engine, the output directory, a table that is written row by row. */
import { directoryOfRank } from '../../src/cli/follower.js';
import type { Communicator } from '../../src/distributed/communicator.js';
import { ranksOf } from '../../src/distributed/ranks.js';
import type { Engine } from '../../src/engines/engine.js';
import { startCuda } from '../../src/engines/cuda/index.js';
import { joinRanks } from '../../src/engines/join.js';
import type { Json } from '../../src/results/canonical.js';
import { collectProvenance } from '../../src/results/provenance.js';
import type { Schema } from '../../src/results/schema.js';
import { ResultWriter } from '../../src/results/writer.js';
import { benchCommand } from './command.js';

export interface Session {
  engine: Engine;
  table: ResultWriter;
  /** The processes of the benchmark, one for each GPU; of several, the first has the table. */
  communicator: Communicator;
}

export interface SessionOptions {
  /** The models measured, each with its name. */
  configuration: Json;
  /** What the benchmark has fixed: batch, lengths, how often. */
  constants: Readonly<Record<string, Json>>;
}

/** Starts the engine in bfloat16 and opens `DIRECTORY/NAME.csv` (directory: first argument, default `results/h200`). */
export async function openSession(schema: Schema, options: SessionOptions): Promise<Session> {
  const { configuration, constants } = options;
  const { directory, ...command } = benchCommand(process.argv);
  const ranks = ranksOf(process.env);
  const engine = await startCuda({ storage: 'bfloat16', device: ranks?.localRank });
  const communicator = await joinRanks(engine, ranks);
  const provenance = collectProvenance({ ...command, engine, communicator, configuration });
  const table = ResultWriter.open(directoryOfRank(communicator, directory, false), schema, {
    provenance,
    settings: { ...constants, engine: engine.description, ranks: communicator.size },
    resume: false,
  });
  return { engine, table, communicator };
}
