/** What the CUDA benchmarks share: the engine, the output directory, a table that is written row by row. */
import type { Engine } from '../../src/engines/engine.js';
import { startCuda } from '../../src/engines/cuda/index.js';
import type { Json } from '../../src/results/canonical.js';
import { collectProvenance } from '../../src/results/provenance.js';
import type { Schema } from '../../src/results/schema.js';
import { ResultWriter } from '../../src/results/writer.js';
import { benchCommand } from './command.js';

export interface Session {
  engine: Engine;
  table: ResultWriter;
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
  const engine = await startCuda({ storage: 'bfloat16' });
  const provenance = collectProvenance({ ...command, engine, configuration });
  const table = ResultWriter.open(directory, schema, {
    provenance,
    settings: { ...constants, engine: engine.description },
    resume: false,
  });
  return { engine, table };
}
