import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { RunError } from '../errors.js';
import { readJsonAs } from '../files/json.js';

/** The parts of NAME.run.json that a page shows. */
const RUN = v.object({
  command: v.optional(v.array(v.string())),
  versions: v.optional(v.record(v.string(), v.string())),
  machine: v.optional(v.object({ cpu: v.string(), cores: v.number(), memoryBytes: v.number() })),
  engine: v.nullish(v.object({ description: v.string() })),
});

export type RunInfo = v.InferOutput<typeof RUN>;

/** A table without provenance, or with one of another shape, is still a table. */
function readRun(path: string): RunInfo[] {
  try {
    return [readJsonAs(path, RUN)];
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    return [];
  }
}

/** What the runs in a results directory were, in the order of their files' names. */
export function findRuns(directory: string): RunInfo[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.run.json'))
    .sort()
    .flatMap((path) => readRun(join(directory, path)));
}
