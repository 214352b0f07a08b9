/** Experiment files: which commands of ours, with which arguments, make a table or figure. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describeSystemError, RunError, UsageError } from '../errors.js';
import { packageRoot } from '../package-root.js';

export interface ExperimentStep {
  title: string;
  /** A command of ours: `train`. */
  command: string;
  /** Its arguments; `{out}` stands for the experiment's output directory. In the file, `run` holds both. */
  args: readonly string[];
}

export interface Experiment {
  name: string;
  description: string;
  /** Output directory unless `--out` says otherwise. */
  out: string;
  steps: readonly ExperimentStep[];
}

const directory = join(packageRoot, 'experiments');

export function experimentNames(): string[] {
  return readdirSync(directory)
    .filter((file) => file.endsWith('.json'))
    .map((file) => basename(file, '.json'))
    .sort();
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;

function checkStep(file: string, step: unknown, index: number): ExperimentStep {
  const where = `${file}: step ${index + 1}`;
  const { title, run } = isRecord(step) ? step : {};
  if (!isText(title)) throw new RunError(`${where}: 'title' must be a text`);
  if (!isText(run)) throw new RunError(`${where}: 'run' must be a command of yoco with its arguments`);
  const [command = '', ...args] = run.trim().split(/\s+/);
  return { title, command, args };
}

function parseExperiment(file: string, text: string): Experiment {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new RunError(`${file} is no JSON: ${(error as Error).message}`, { cause: error });
  }
  const { description, out, steps } = isRecord(value) ? value : {};
  if (!isText(description)) throw new RunError(`${file}: 'description' must be a text`);
  if (!isText(out)) throw new RunError(`${file}: 'out' must name the output directory`);
  if (!Array.isArray(steps) || steps.length === 0)
    throw new RunError(`${file}: 'steps' must be a list of commands`);
  const name = basename(file, '.json');
  return { name, description, out, steps: steps.map((step, index) => checkStep(file, step, index)) };
}

/**
 * @param nameOrPath the name of a file in `experiments/`, or the path of another one
 * @throws UsageError when there is no such experiment, RunError when the file is no experiment
 */
export function loadExperiment(nameOrPath: string): Experiment {
  const shipped = join(directory, `${nameOrPath}.json`);
  const file = experimentNames().includes(nameOrPath) ? shipped : nameOrPath;
  if (!existsSync(file)) {
    throw new UsageError(
      `no experiment '${nameOrPath}': name a file or one of ${experimentNames().join(', ')}`,
    );
  }
  try {
    return parseExperiment(file, readFileSync(file, 'utf8'));
  } catch (error) {
    const reason = describeSystemError(error);
    if (reason === null) throw error;
    throw new UsageError(`cannot read the experiment ${reason}`, { cause: error });
  }
}
