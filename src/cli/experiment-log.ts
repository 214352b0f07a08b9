import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { RunError } from '../errors.js';
import { readJsonAs } from '../files/json.js';
import { hashOf } from '../results/canonical.js';
import { makeDirectory, writeFileAtomic } from '../files/write.js';
import { groupsOf, type ExperimentStep } from './experiment.js';

const FINISHED_STEP = v.object({
  title: v.string(),
  seconds: v.number(),
  /** Files the step wrote below the output directory. */
  files: v.array(v.string()),
});
const LOG = v.record(v.string(), FINISHED_STEP);

type FinishedStep = v.InferOutput<typeof FINISHED_STEP>;

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
    return groupsOf(steps).flatMap((group) => {
      const hashes = group.map(({ command, args }) => hashOf({ previous, command, args }));
      previous = hashes.length === 1 ? (hashes[0] ?? '') : hashOf({ hashes });
      return hashes;
    });
  }

  isDone(hash: string): boolean {
    const step = this.finished.get(hash);
    return step !== undefined && step.files.every((file) => existsSync(join(this.directory, file)));
  }

  /**
   * @param started when the step began, in milliseconds since 1970
   * @param folder where the step writes, below the output directory, when others write beside it
   */
  record(hash: string, title: string, started: number, folder = '.'): void {
    const files = filesWrittenSince(join(this.directory, folder), started).map((file) => join(folder, file));
    this.finished.set(hash, { title, seconds: Math.round((Date.now() - started) / 100) / 10, files });
    makeDirectory(this.directory);
    writeFileAtomic(this.path, `${JSON.stringify(Object.fromEntries(this.finished), null, 2)}\n`);
  }
}

/** A damaged log, or one of another shape, only means that steps run again; each resumes from its own files. */
function readLog(path: string): [string, FinishedStep][] {
  try {
    return Object.entries(readJsonAs(path, LOG));
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
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
