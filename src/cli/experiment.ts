/** Experiment files: which commands of ours, with which arguments, make a table or figure. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { UsageError } from '../errors.js';
import { readJsonAs } from '../files/json.js';
import { packageRoot } from '../package-root.js';

/**
 * One command. Its words may hold `{out}`, the experiment's output directory, and `{NAME}` for each of its inputs; in the
 * file, `run` (a yoco command) or `script` (a benchmark of the checkout) holds all words.
 */
export interface ExperimentStep {
  title: string;
  /** `script`: a TypeScript file below the root of the checkout, for tables that no command makes. */
  kind: 'run' | 'script';
  /** A command of ours (`train`), or the path of a script. */
  command: string;
  args: readonly string[];
  /** Neighbours of one group do not need each other; absent: the step needs all before it. */
  group?: string;
}

export interface Experiment {
  name: string;
  description: string;
  /** Output directory unless `--out` says otherwise. */
  out: string;
  /** Directory of a checkout where the results are committed; null where they are not. */
  reference: string | null;
  /** What a person must bring for some steps (`--input NAME=PATH`): a description by name. */
  inputs: Readonly<Record<string, string>>;
  steps: readonly ExperimentStep[];
}

const directory = join(packageRoot, 'experiments');

export function experimentNames(): string[] {
  return readdirSync(directory)
    .filter((file) => file.endsWith('.json'))
    .map((file) => basename(file, '.json'))
    .sort();
}

const text = v.pipe(v.string(), v.nonEmpty('expected a text'));
/** A step as the file has it. */
interface StepFields {
  title: string;
  run?: string;
  script?: string;
  group?: string;
}

const isOneCommand = ({ run, script }: StepFields): boolean => (run === undefined) !== (script === undefined);

/** It could be itself, or one that runs this one. */
const runsNoExperiment = ({ run }: StepFields): boolean => !/^\s*reproduce(\s|$)/.test(run ?? '');

const EXPERIMENT = v.object({
  description: text,
  out: text,
  reference: v.optional(text),
  inputs: v.optional(v.record(v.string(), text), {}),
  steps: v.pipe(
    v.array(
      v.pipe(
        v.object({ title: text, run: v.optional(text), script: v.optional(text), group: v.optional(text) }),
        v.check(
          isOneCommand,
          "expected either 'run', a command of yoco, or 'script', a file of the checkout",
        ),
        v.check(
          runsNoExperiment,
          'expected another command than reproduce: an experiment runs no experiment',
        ),
      ),
    ),
    v.nonEmpty('expected at least one step'),
  ),
});

function readExperiment(file: string): Experiment {
  const { reference = null, steps, ...fields } = readJsonAs(file, EXPERIMENT);
  return {
    ...fields,
    name: basename(file, '.json'),
    reference,
    steps: steps.map(({ title, run, script, group }) => {
      const [command = '', ...args] = (run ?? script ?? '').trim().split(/\s+/);
      return { title, kind: run === undefined ? 'script' : 'run', command, args, group };
    }),
  };
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
  return readExperiment(file);
}

/** A step with its output directory and inputs put in, or what it lacks. */
export type ResolvedStep = ExperimentStep & {
  /** Names of inputs that were not given. The step cannot run. */
  missing: readonly string[];
};

/**
 * Puts the values in for `{out}` and `{NAME}`.
 *
 * @param given values of inputs by name
 * @throws UsageError for a value of an input the experiment does not have
 */
export function resolveSteps(
  { name, inputs, steps }: Experiment,
  out: string,
  given: Readonly<Record<string, string>> = {},
): ResolvedStep[] {
  const unknown = Object.keys(given).find((input) => !(input in inputs));
  if (unknown !== undefined) {
    const known = Object.keys(inputs).join(', ') || 'none';
    throw new UsageError(`--input ${unknown}: experiment '${name}' has no such input; its inputs: ${known}`);
  }
  const values: Readonly<Record<string, string>> = { ...given, out };
  const fill = (word: string): string =>
    word.replaceAll(/\{(\w+)\}/g, (whole, key: string) => values[key] ?? whole);
  return steps.map((step) => ({
    ...step,
    args: step.args.map(fill),
    missing: Object.keys(inputs).filter(
      (input) => !(input in given) && step.args.some((word) => word.includes(`{${input}}`)),
    ),
  }));
}

/** Steps that may run side by side: neighbours of one group. */
export function groupsOf<S extends Pick<ExperimentStep, 'group'>>(steps: readonly S[]): S[][] {
  const groups: S[][] = [];
  for (const step of steps) {
    const last = groups.at(-1);
    if (step.group !== undefined && last?.[0]?.group === step.group) last.push(step);
    else groups.push([step]);
  }
  return groups;
}
