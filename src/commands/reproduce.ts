import { Args, Flags } from '@oclif/core';
import { chalkStderr } from 'chalk';
import { checkFlags } from '../cli/flags.js';
import { PlainCommand } from '../cli/plain-command.js';
import { formatDuration } from '../cli/progress.js';
import { FailedCellsError, RegressionError, RunError, UsageError } from '../library/basics.js';
import type { Experiment, ResolvedStep } from '../cli/experiment.js';

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
    '<%= config.bin %> <%= command.id %> needle --input novels=books',
    '<%= config.bin %> <%= command.id %> my-experiment.json',
  ];
  static override args = {
    experiment: Args.string({ description: 'name of a file in experiments/, or a path', required: true }),
  };
  static override flags = {
    out: Flags.string({ description: "output directory (default: the experiment's own)", helpValue: 'DIR' }),
    resume: Flags.boolean({ description: 'skip finished steps', default: true, allowNo: true }),
    input: Flags.string({
      description: 'where an input of the experiment is; may be repeated',
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'NAME=PATH',
    }),
    check: Flags.string({
      description: 'compare every table with the one of the same name in DIR; exit 1 if a figure is worse',
      helpValue: 'DIR',
    }),
    tolerance: checkFlags.tolerance,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Reproduce);
    const { existsSync } = await import('node:fs');
    const { loadExperiment, resolveSteps } = await import('../cli/experiment.js');
    const { ExperimentLog } = await import('../cli/experiment-log.js');
    const { referenceTable, runStep } = await import('../cli/steps.js');
    const { toolkitVersion, lockDirectory } = await import('../library/results.js');
    const experiment = loadExperiment(args.experiment);
    const { check, quiet, resume, tolerance = 0 } = flags;
    if (check !== undefined && !existsSync(check)) {
      throw new UsageError(`--check ${check}: there is no such directory`);
    }
    const out = flags.out ?? experiment.out;
    const steps = resolveSteps(experiment, out, parseInputs(flags.input));
    this.requireCommands(experiment, steps);
    const hashes = ExperimentLog.hashes(steps, toolkitVersion());
    lockDirectory(out, 'reproduce', { doing: 'reproducing an experiment', reentrant: true });
    const log = new ExperimentLog(out, resume);
    const begun = Date.now();
    const problems: string[] = [];
    for (const [index, step] of steps.entries()) {
      const hash = hashes[index] ?? '';
      const heading = `[${index + 1}/${steps.length}] ${step.title}`;
      const file = check === undefined ? null : referenceTable(this.config, step, out, check);
      if (step.missing.length > 0) {
        const needed = step.missing.map((name) => `--input ${name}=PATH (${experiment.inputs[name] ?? ''})`);
        this.note(`${heading}: skipped, it needs ${needed.join(' and ')}`);
      } else if (log.isDone(hash) && file === null) {
        this.note(`${heading}: done before`);
      } else {
        this.headline(`${heading}  (${commandLine(step)})`);
        const started = Date.now();
        const options = { resume, quiet, ...(file === null ? {} : { check: { file, tolerance } }) };
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

const commandLine = ({ kind, command, args }: ResolvedStep): string =>
  [kind === 'run' ? 'yoco' : 'node --import tsx', command, ...args].join(' ');
