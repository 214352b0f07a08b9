import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Args, Flags } from '@oclif/core';
import { chalkStderr } from 'chalk';
import { checkFlags, ENGINE_OPTIONS, outFlag } from '../cli/flags.js';
import { PlainCommand } from '../cli/plain-command.js';
import { formatDuration } from '../cli/progress.js';
import { FailedCellsError, RegressionError, RunError, UsageError } from '../library/basics.js';
import type { Experiment, ResolvedStep } from '../cli/experiment.js';
import type { ExperimentLog } from '../cli/experiment-log.js';
import type { StepOptions } from '../cli/steps.js';

/** A step that is to run. */
interface DueStep {
  readonly step: ResolvedStep;
  readonly group?: string;
  readonly hash: string;
  readonly heading: string;
  readonly options: StepOptions;
}

export default class Reproduce extends PlainCommand {
  static override summary = 'Run an experiment: the commands behind a table or figure, one after the other.';
  static override description =
    'Experiments are files in experiments/ (or any path): a list of yoco commands with their arguments. Finished steps are ' +
    'kept and skipped when the experiment is run again; an interrupted step resumes where it stopped. A step that needs data ' +
    'of yours (--input) is skipped without it. --check compares the tables with those of an earlier run.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> laptop',
    '<%= config.bin %> <%= command.id %> laptop --check results/laptop',
    '<%= config.bin %> <%= command.id %> laptop --no-resume --out runs/again',
    '<%= config.bin %> <%= command.id %> laptop --engine tensorflow --out runs/laptop-tensorflow',
    '<%= config.bin %> <%= command.id %> needle --input novels=books',
    '<%= config.bin %> <%= command.id %> quality-ladder --jobs 4',
    '<%= config.bin %> <%= command.id %> my-experiment.json',
  ];
  static override args = {
    experiment: Args.string({ description: 'name of a file in experiments/, or a path', required: true }),
  };
  static override flags = {
    out: outFlag({ description: "output directory (default: the experiment's own)", helpValue: 'DIR' }),
    resume: Flags.boolean({ description: 'skip finished steps', default: true, allowNo: true }),
    input: Flags.string({
      description: 'where an input of the experiment is; may be repeated',
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'NAME=PATH',
    }),
    engine: Flags.option({
      options: ENGINE_OPTIONS,
      description: 'engine of the steps that name none',
    })(),
    check: Flags.string({
      description: 'compare every table with the one of the same name in DIR; exit 1 if a figure is worse',
      helpValue: 'DIR',
    }),
    tolerance: checkFlags.tolerance,
    jobs: Flags.integer({
      description: 'independent steps to run at once, each in a process (and on a GPU) of its own',
      default: 1,
      min: 1,
      max: 1024,
    }),
    step: Flags.integer({
      description: 'run this step only, counted from 1: for the tasks of a job array',
      min: 1,
      exclusive: ['jobs', 'check'],
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Reproduce);
    const { groupsOf, loadExperiment, resolveSteps } = await import('../cli/experiment.js');
    const { ExperimentLog } = await import('../cli/experiment-log.js');
    const { outputFolder, referenceTable, runStep, withEngine } = await import('../cli/steps.js');
    const { toolkitVersion, lockDirectory } = await import('../library/results.js');
    const experiment = loadExperiment(args.experiment);
    const { check, quiet, resume, tolerance = 0 } = flags;
    if (check !== undefined && !existsSync(check)) {
      throw new UsageError(`--check ${check}: there is no such directory`);
    }
    const out = flags.out ?? experiment.out;
    const resolved = resolveSteps(experiment, out, parseInputs(flags.input));
    this.requireCommands(experiment, resolved);
    const folders = new Set(resolved.map((step) => join(out, outputFolder(step, out))));
    this.requireDestinations([...folders].map((directory) => ({ directory })));
    const steps = flags.engine === undefined ? resolved : withEngine(this.config, resolved, flags.engine);
    const hashes = ExperimentLog.hashes(steps, toolkitVersion());
    if (flags.step !== undefined) {
      await this.runAlone(experiment, steps, flags.step, { resume, quiet });
      return;
    }
    lockDirectory(out, 'reproduce', { doing: 'reproducing an experiment', reentrant: true });
    const log = new ExperimentLog(out, resume);
    const begun = Date.now();
    const problems: string[] = [];
    const due = steps.flatMap((step, index): DueStep[] => {
      const hash = hashes[index] ?? '';
      const heading = `[${index + 1}/${steps.length}] ${step.title}`;
      const file = check === undefined ? null : referenceTable(this.config, step, out, check);
      if (step.missing.length > 0) {
        this.note(`${heading}: skipped, it needs ${missingInputs(experiment, step)}`);
        return [];
      }
      if (log.isDone(hash) && file === null) {
        this.note(`${heading}: done before`);
        return [];
      }
      const options = { resume, quiet, ...(file === null ? {} : { check: { file, tolerance } }) };
      return [{ step, group: step.group, hash, heading, options }];
    });
    for (const group of groupsOf(due)) {
      if (group.length > 1 && flags.jobs > 1 && group.every(({ step }) => step.kind === 'run')) {
        problems.push(...(await this.runGroup(group, flags.jobs, log, out)));
        continue;
      }
      for (const { step, hash, heading, options } of group) {
        this.headline(`${heading}  (${commandLine(step)})`);
        const started = Date.now();
        const problem = await this.attempt(() => runStep(this.config, step, options));
        if (!(problem instanceof FailedCellsError)) log.record(hash, step.title, started);
        if (problem) problems.push(step.title);
      }
    }
    this.note(
      `${experiment.name}: ${steps.length} steps in ${formatDuration((Date.now() - begun) / 1000)}, in ${out}`,
    );
    if (problems.length > 0)
      throw new RunError(
        `${problems.length} of ${steps.length} steps have failed cells or worse figures: ${problems.join('; ')}`,
      );
  }

  /** One step of the list by itself, for a job array: what the others have done is not asked. */
  private async runAlone(
    experiment: Experiment,
    steps: readonly ResolvedStep[],
    number: number,
    options: { resume: boolean; quiet: boolean },
  ): Promise<void> {
    const { runStep } = await import('../cli/steps.js');
    const step = steps[number - 1];
    if (step === undefined)
      throw new UsageError(`--step ${number}: the experiment has ${steps.length} steps`);
    if (step.missing.length > 0)
      throw new UsageError(`--step ${number} needs ${missingInputs(experiment, step)}`);
    this.headline(`[${number}/${steps.length}] ${step.title}  (${commandLine(step)})`);
    await runStep(this.config, step, options);
  }

  /** Steps side by side; the titles of those that failed. @throws RunError where one could not run at all */
  private async runGroup(
    group: readonly DueStep[],
    jobs: number,
    log: ExperimentLog,
    out: string,
  ): Promise<string[]> {
    const { runJobs } = await import('../cli/jobs.js');
    const { stepWords, outputFolder } = await import('../cli/steps.js');
    const started = group.map(() => 0);
    const problems: string[] = [];
    const broken: string[] = [];
    const jobsOf = group.map(({ step, options }) => ({
      words: stepWords(this.config, step, { ...options, quiet: true }),
    }));
    const stopped = await runJobs(
      jobsOf,
      jobs,
      (index) => {
        started[index] = Date.now();
        const { heading, step } = group[index] as DueStep;
        this.headline(`${heading}  (${commandLine(step)})`);
      },
      (index, { status, stderr }) => {
        const { hash, heading, step } = group[index] as DueStep;
        const seconds = (Date.now() - (started[index] ?? 0)) / 1000;
        this.note(
          `${heading}: ${status === 0 ? 'done' : `exit status ${status}`} in ${formatDuration(seconds)}`,
        );
        if (status === 0) log.record(hash, step.title, started[index] ?? 0, outputFolder(step, out));
        else {
          process.stderr.write(stderr);
          (status === 1 ? problems : broken).push(step.title);
        }
      },
    );
    if (stopped !== null) {
      process.stderr.write('interrupted; the same command resumes\n');
      this.exit(130);
    }
    if (broken.length > 0) throw new RunError(`steps could not run: ${broken.join('; ')}`);
    return problems;
  }

  /** Refuses unknown commands before the work starts. */
  private requireCommands(experiment: Experiment, steps: readonly ResolvedStep[]): void {
    const unknown = steps.find(({ kind, command }) => kind === 'run' && !this.config.findCommand(command));
    if (unknown === undefined) return;
    const known = this.config.commandIDs.join(', ');
    throw new UsageError(`${experiment.name}: no command '${unknown.command}'; the commands are ${known}`);
  }

  /** What a step reports after it has run to its end: failed cells or worse figures. Other errors stop the experiment. */
  private async attempt(work: () => Promise<void>): Promise<FailedCellsError | RegressionError | null> {
    try {
      await work();
      return null;
    } catch (error) {
      if (!(error instanceof FailedCellsError || error instanceof RegressionError)) throw error;
      this.caution(error.message);
      return error;
    }
  }

  private headline(text: string): void {
    if (!this.isQuiet) process.stderr.write(`${chalkStderr.bold(text)}\n`);
  }
}

/** `['novels=books']` → `{ novels: 'books' }`. */
function parseInputs(words: readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    words.map((word) => {
      const [, name, path] = /^(\w+)=(.+)$/.exec(word) ?? [];
      if (name === undefined || path === undefined)
        throw new UsageError(`--input ${word}: write NAME=PATH, such as novels=books`);
      return [name, path];
    }),
  );
}

/** The flags that a step lacks, each with what it is. */
const missingInputs = ({ inputs }: Experiment, { missing }: ResolvedStep): string =>
  missing.map((name) => `--input ${name}=PATH (${inputs[name] ?? ''})`).join(' and ');

const commandLine = ({ kind, command, args }: ResolvedStep): string =>
  [kind === 'run' ? 'yoco' : 'node --import tsx', command, ...args].join(' ');
