import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { hashOf } from '../results/canonical.js';
import { makeDirectory, writeFileAtomic } from '../files/write.js';
import type { ExperimentStep } from './experiment.js';

interface FinishedStep {
  title: string;
  seconds: number;
  /** Files the step wrote below the output directory. */
  files: string[];
}

/**
 * Which steps of an experiment are done, in `reproduce.json` of its output directory. A step counts as done under a
 * hash of itself and all steps before it, as long as the files it wrote are there.
 */
export class ExperimentLog {
  private readonly path: string;
  private readonly finished: Map<string, FinishedStep>;

  /** @param resume false forgets what is done */
  constructor(
    private readonly directory: string,
    resume: boolean,
  ) {
    this.path = join(directory, 'reproduce.json');
    this.finished = new Map(resume && existsSync(this.path) ? readLog(this.path) : []);
  }

  /** The names under which the steps are known here: each depends on the ones before it. */
  static hashes(steps: readonly ExperimentStep[], version: string): string[] {
    let previous = version;
    return steps.map(({ command, args }) => (previous = hashOf({ previous, command, args })));
  }

  isDone(hash: string): boolean {
    const step = this.finished.get(hash);
    return step !== undefined && step.files.every((file) => existsSync(join(this.directory, file)));
  }

  /** @param started when the step began, in milliseconds since 1970 */
  record(hash: string, title: string, started: number): void {
    const files = filesWrittenSince(this.directory, started);
    this.finished.set(hash, { title, seconds: Math.round((Date.now() - started) / 100) / 10, files });
    makeDirectory(this.directory);
    writeFileAtomic(this.path, `${JSON.stringify(Object.fromEntries(this.finished), null, 2)}\n`);
  }
}

function readLog(path: string): [string, FinishedStep][] {
  try {
    return Object.entries(JSON.parse(readFileSync(path, 'utf8')) as Record<string, FinishedStep>);
  } catch {
    // A damaged log only means that steps are run again; each resumes from its own files.
    return [];
  }
}

function filesWrittenSince(directory: string, time: number): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => {
      const stat = statSync(join(directory, name));
      return stat.isFile() && stat.mtimeMs >= time;
    })
    .sort();
}
