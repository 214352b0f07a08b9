import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readTokenIds } from '../data/tokenizers/conventions.js';
import { UsageError } from '../errors.js';
import { describeFile, refuseOtherWeights } from './foreign.js';
import { movedAway } from '../files/staging.js';
import { flaFormat } from './formats/fla.js';
import type { Checkpoint, CheckpointFormat } from './formats/format.js';
import { ggufFormat } from './formats/gguf.js';
import { huggingFaceFormat } from './formats/hugging-face.js';
import { metaFormat } from './formats/meta.js';
import { nativeFormat } from './formats/native.js';
import { officialFormat } from './formats/official.js';

export { FORMAT_NAMES } from './formats/format.js';
export type { Checkpoint, CheckpointFormat, FormatName, WriteOptions } from './formats/format.js';

/** In the order of detection: `huggingface` takes any config.json with a model_type, `official` any params.json that Meta's layout has not claimed. */
export const FORMATS: readonly CheckpointFormat[] = [
  nativeFormat,
  flaFormat,
  huggingFaceFormat,
  metaFormat,
  officialFormat,
  ggufFormat,
];

/** Checkpoints of a training run are `RUN/checkpoints/step-00000400`; the newest has the largest number. */
const STEP_DIRECTORY = /^step-\d{8}$/;

/** Finished step directories of a run, oldest first. */
export function stepDirectories(run: string): string[] {
  const directory = join(run, 'checkpoints');
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => STEP_DIRECTORY.test(name))
    .sort()
    .map((name) => join(directory, name));
}

function requireDirectory(directory: string): void {
  const stat = statSync(directory, { throwIfNoEntry: false });
  if (stat === undefined) {
    const moved = movedAway(directory);
    const hint =
      moved === undefined ? '' : ` (an interrupted conversion has left it as ${moved}: convert again)`;
    throw new UsageError(`there is no checkpoint directory ${directory}${hint}`);
  }
  if (!stat.isDirectory() && !ggufFormat.detect(directory)) {
    throw new UsageError(`${describeFile(directory)}: give the directory that holds the checkpoint`);
  }
}

export interface OpenCheckpoint extends Checkpoint {
  readonly format: CheckpointFormat;
  /** Where the files are: the newest step directory if a training run was given, or the one file. */
  readonly directory: string;
  /** The state dict that was named, where a file holds several. */
  readonly stateDict?: string;
}

/**
 * Opens a checkpoint of any known format, or the newest of a training run. `DIR#NAME` takes one of several state dicts. Only headers are read.
 * @throws UsageError where there is none, RunError where it is damaged or does not fit its configuration
 */
export function openCheckpoint(path: string): OpenCheckpoint {
  const [directory, stateDict] = splitStateDict(path);
  requireDirectory(directory);
  const step = stepDirectories(directory).at(-1);
  if (step !== undefined) return openCheckpoint(stateDict === undefined ? step : `${step}#${stateDict}`);
  const format = FORMATS.find((candidate) => candidate.detect(directory));
  if (format === undefined) {
    refuseOtherWeights(directory);
    const known = FORMATS.map(({ name, description }) => `${name}: ${description}`).join('; ');
    throw new UsageError(`${directory} holds no checkpoint of a known format (${known})`);
  }
  if (stateDict !== undefined && format.hasStateDicts !== true) {
    throw new UsageError(`${directory} holds one model: leave '#${stateDict}' out`);
  }
  return {
    tokens: readTokenIds(directory),
    ...format.open(directory, stateDict),
    format,
    directory,
    ...(stateDict === undefined ? {} : { stateDict }),
  };
}

/** `DIR#ema`: the state dict `ema` in the file of a directory. A directory with such a name comes first. */
function splitStateDict(path: string): [directory: string, stateDict: string | undefined] {
  const at = path.lastIndexOf('#');
  if (at <= 0 || existsSync(path)) return [path, undefined];
  return [path.slice(0, at), path.slice(at + 1)];
}
