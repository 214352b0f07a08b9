/** What the CUDA benchmarks share: the engine, the output directory, a table that is written row by row. */
import type { Engine } from '../../src/engines/engine.js';
import { startCuda } from '../../src/engines/cuda/index.js';
import { collectProvenance } from '../../src/results/provenance.js';
import type { Schema } from '../../src/results/schema.js';
import { ResultWriter } from '../../src/results/writer.js';

export interface Session {
  engine: Engine;
  table: ResultWriter;
}

/** Starts the engine in bfloat16 and opens `DIRECTORY/NAME.csv` (directory: first argument, default `results/h200`). */
export async function openSession(schema: Schema): Promise<Session> {
  const directory = process.argv[2] ?? 'results/h200';
  const engine = await startCuda({ storage: 'bfloat16' });
  const command = ['bench/cuda', schema.name, ...process.argv.slice(2)];
  const provenance = collectProvenance({ command, flags: {}, engine });
  const table = ResultWriter.open(directory, schema, {
    provenance,
    settings: engine.description,
    resume: false,
  });
  return { engine, table };
}
