import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** The parts of NAME.run.json that a page shows. */
export interface RunInfo {
  command?: string[];
  versions?: Record<string, string>;
  machine?: { cpu: string; cores: number; memoryBytes: number; system: string };
  engine?: { name: string; description: string; device: string; storage: string } | null;
}

function readRun(path: string): RunInfo[] {
  try {
    return [JSON.parse(readFileSync(path, 'utf8')) as RunInfo];
  } catch {
    // A table without provenance is still a table.
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
