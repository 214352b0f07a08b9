/** Ranks beside the first measure what it measures and write what nobody reads. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Communicator } from '../distributed/communicator.js';

const JOURNAL = '.cells.jsonl';

type Files = readonly (readonly [name: string, text: string])[];

/**
 * Where this rank writes: rank 0 in the directory itself, the others in one of their own, with the cells that rank 0 has
 * from earlier runs, so that all measure the same. It is removed when the process ends.
 * @param resume whether earlier cells count
 */
export function directoryOfRank(communicator: Communicator, directory: string, resume: boolean): string {
  if (communicator.size === 1) return directory;
  const isFirst = communicator.rank === 0;
  const [journals] = communicator.gather(isFirst && resume ? journalsIn(directory) : []) as [Files];
  if (isFirst) return directory;
  const own = mkdtempSync(join(tmpdir(), 'yoco-rank-'));
  process.on('exit', () => {
    rmSync(own, { recursive: true, force: true });
  });
  // The names come from another process, if one of ours.
  for (const [name, text] of journals) writeFileSync(join(own, basename(name)), text);
  return own;
}

function journalsIn(directory: string): Files {
  if (!existsSync(directory)) return [];
  const names = readdirSync(directory).filter((name) => name.endsWith(JOURNAL));
  return names.map((name) => [name, readFileSync(join(directory, name), 'utf8')] as const);
}
