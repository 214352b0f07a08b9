/**
 * Where a run can be taken up again: `RUN/checkpoints/step-00000400/`, a checkpoint (config.json,
 * model.safetensors) with the optimizer's moments (training.safetensors) and the state of the data (training.json).
 *
 * A snapshot is written under another name, flushed to the disk and renamed: it is there wholly or not at all, whenever
 * the process dies. The newest two are kept.
 */
import { existsSync, lstatSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import * as v from 'valibot';
import { RunError, UsageError, YocoError } from '../errors.js';
import { toFloat32 } from '../checkpoint/data-type.js';
import { quote, writeJson } from '../checkpoint/files.js';
import { loadParameters, tensorEntries, writeModel } from '../checkpoint/load.js';
import type { ModelMeta } from '../checkpoint/load.js';
import { openCheckpoint, stepDirectories } from '../checkpoint/open.js';
import { SafetensorsFile, writeSafetensors } from '../checkpoint/safetensors.js';
import { OBJECT, readJsonAs } from '../files/json.js';
import { replaceDirectory } from '../files/staging.js';
import type { LanguageModel } from '../model/language-model.js';
import type { Json } from '../results/canonical.js';
import { canonicalJson } from '../results/canonical.js';
import { float32Tensor } from '../ops/index.js';
import * as tf from '../tf.js';
import type { TrainingOptimizer } from './optimizer.js';

const KEPT = 2;

/** `step-00000400.1234.tmp` (being written) and `.old` (being replaced or removed) of a process that is gone. */
const LEFTOVER = /^(step-\d{8})\.\d+\.(tmp|old)$/;

const COUNT = v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(0));
const TRAINING = v.object({
  step: COUNT,
  tokens: COUNT,
  task: v.unknown(),
  settings: OBJECT,
});

/** The part of a snapshot that is not tensors. */
export interface Progress {
  readonly step: number;
  readonly tokens: number;
  readonly task: Json;
}

export interface Trained {
  readonly model: LanguageModel;
  readonly optimizer: TrainingOptimizer;
}

export class Snapshots {
  /** @param settings everything that determines the run; another run's snapshots are refused */
  constructor(
    private readonly run: string,
    private readonly settings: Readonly<Record<string, Json>>,
  ) {}

  /**
   * Removes what a killed process left half-written or half-removed, and gives a snapshot back its name that was moved
   * away to be replaced. Nothing else in the directory is touched, and nothing where it is a symbolic link.
   */
  clean(): void {
    for (const name of this.entries()) {
      const [, step = '', kind] = LEFTOVER.exec(name) ?? [];
      if (kind === undefined) continue;
      const target = join(this.directory, step);
      if (kind === 'old' && !existsSync(target)) renameSync(join(this.directory, name), target);
      else removeDirectory(join(this.directory, name));
    }
  }

  /** Removes all snapshots. @throws UsageError where they are behind a symbolic link */
  clear(): void {
    if (isLink(this.directory)) {
      throw new UsageError(
        `${this.directory} is a symbolic link, nothing is removed behind it: choose another --out, or remove the snapshots yourself`,
      );
    }
    this.clean();
    this.snapshots().forEach(remove);
  }

  private get directory(): string {
    return join(this.run, 'checkpoints');
  }

  /** Step directories that a run has written, oldest first; a person may have put others beside them. */
  private snapshots(): string[] {
    return stepDirectories(this.run).filter(isSnapshot);
  }

  /** Names in the directory of snapshots; none where it is absent or a symbolic link. */
  private entries(): string[] {
    return existsSync(this.directory) && !isLink(this.directory) ? readdirSync(this.directory) : [];
  }

  /** Directories of the snapshots of this run, the newest first. @throws UsageError where another run has left them */
  list(): string[] {
    const directories = this.snapshots().reverse();
    const [newest] = directories;
    if (newest !== undefined) this.checkSettings(newest);
    return directories;
  }

  /** @param moments the optimizer's state */
  async write(
    progress: Progress,
    { model, moments }: { model: LanguageModel; moments: ReadonlyMap<string, tf.Tensor> },
    meta: ModelMeta,
  ): Promise<string> {
    const target = this.pathOf(progress.step);
    if (lstatSync(target, { throwIfNoEntry: false }) !== undefined && !isSnapshot(target)) {
      throw new RunError(`${target} was not written by this run and is not replaced: choose another --out`);
    }
    await replaceDirectory(target, async (directory) => {
      await writeModel(directory, model, meta);
      await writeSafetensors(join(directory, 'training.safetensors'), tensorEntries(moments));
      writeJson(join(directory, 'training.json'), { ...progress, settings: this.settings });
    });
    this.snapshots().slice(0, -KEPT).forEach(remove);
    return target;
  }

  /** Where the snapshot after a step is. */
  pathOf(step: number): string {
    return join(this.directory, `step-${String(step).padStart(8, '0')}`);
  }

  /** How far the run was. @throws RunError for a damaged training.json */
  progress(directory: string): Progress {
    const { step, tokens, task } = this.reading(directory, () =>
      readJsonAs(join(directory, 'training.json'), TRAINING),
    );
    return { step, tokens, task: task as Json };
  }

  /** Puts parameters and moments back. @throws RunError where files are damaged */
  load(directory: string, trained: Trained): void {
    this.reading(directory, () => {
      load(directory, trained);
    });
  }

  /** Puts the state of the data back. @throws RunError where it is damaged */
  restoreData(directory: string, restore: (task: Json) => void): void {
    this.reading(directory, () => {
      const { task } = this.progress(directory);
      try {
        restore(task);
      } catch (error) {
        if (!(error instanceof YocoError)) throw error;
        throw new RunError(`${join(directory, 'training.json')}: ${error.message}`, { cause: error });
      }
    });
  }

  /** Says with an error of a damaged snapshot which one is before it and how to get there. */
  private reading<T>(directory: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      const older = this.snapshots()
        .filter((candidate) => candidate < directory)
        .at(-1);
      if (!(error instanceof RunError) || older === undefined) throw error;
      throw new RunError(
        `${error.message}; the snapshot before it is ${older}: remove ${directory} to resume from that one`,
        { cause: error },
      );
    }
  }

  private checkSettings(directory: string): void {
    const { settings } = this.reading(directory, () =>
      readJsonAs(join(directory, 'training.json'), TRAINING),
    );
    const earlier = settings as Record<string, Json>;
    const names = [...new Set([...Object.keys(earlier), ...Object.keys(this.settings)])];
    const changes = names.flatMap((name) =>
      differences(name, earlier[name] ?? null, this.settings[name] ?? null),
    );
    if (changes.length === 0) return;
    const shown = changes.slice(0, 4).join(', ') + (changes.length > 4 ? ', …' : '');
    throw new UsageError(
      `${this.run} holds a run with other settings (${shown}): choose another --out, or --no-resume to start over`,
    );
  }
}

function load(directory: string, { model, optimizer }: Trained): void {
  const { tensors } = openCheckpoint(directory);
  try {
    // What training continues from must not be rounded.
    loadParameters(model, tensors, true);
  } finally {
    tensors.close();
  }
  const file = SafetensorsFile.open(join(directory, 'training.safetensors'));
  try {
    optimizer.restore((name, shape) => tensorOf(file, name, shape));
  } finally {
    file.close();
  }
}

/** `learningRate 0.001 → 0.002`; objects are compared field by field. */
function differences(name: string, before: Json, now: Json): string[] {
  if (canonicalJson(before) === canonicalJson(now)) return [];
  if (isRecord(before) && isRecord(now)) {
    const fields = [...new Set([...Object.keys(before), ...Object.keys(now)])];
    return fields.flatMap((field) =>
      differences(`${name}.${field}`, before[field] ?? null, now[field] ?? null),
    );
  }
  return [`${name} ${canonicalJson(before)} → ${canonicalJson(now)}`];
}

function isRecord(value: Json): value is Readonly<Record<string, Json | undefined>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function tensorOf(file: SafetensorsFile, name: string, shape: readonly number[]): tf.Tensor {
  const values = toFloat32(file.read(name));
  const expected = tf.util.sizeFromShape([...shape]);
  if (values.length !== expected) {
    throw new RunError(
      `${file.path}: tensor ${quote(name)} has ${values.length} values, expected ${expected}`,
    );
  }
  return float32Tensor(values, shape);
}

/** First out of the way, then away: a directory under its right name is always complete. */
function remove(directory: string): void {
  const aside = join(dirname(directory), `${basename(directory)}.${process.pid}.old`);
  renameSync(directory, aside);
  removeDirectory(aside);
}

/** Removes a directory of ours; a file or a symbolic link of such a name is not. */
function removeDirectory(directory: string): void {
  if (lstatSync(directory).isDirectory()) rmSync(directory, { recursive: true, force: true });
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

/** Whether a step directory was written by a run: it alone leaves the state of the data in it. */
function isSnapshot(directory: string): boolean {
  return lstatSync(directory).isDirectory() && existsSync(join(directory, 'training.json'));
}
