import { Args, Flags } from '@oclif/core';
import { chalkStderr } from 'chalk';
import { PlainCommand } from '../cli/plain-command.js';
import { formatDuration } from '../cli/progress.js';
import { FailedCellsError, RunError, UsageError } from '../errors.js';
import type { Experiment, ExperimentStep } from '../cli/experiment.js';

export default class Reproduce extends PlainCommand {
  static override summary = 'Run an experiment: the commands behind a table or figure, one after the other.';
  static override description =
    'Experiments are files in experiments/ (or any path): a list of yoco commands with their arguments. Finished steps are ' +
    'kept and skipped when the experiment is run again; an interrupted step goes on where it stopped.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> laptop',
    '<%= config.bin %> <%= command.id %> laptop --no-resume --out runs/again',
    '<%= config.bin %> <%= command.id %> my-experiment.json',
  ];
  static override args = {
    experiment: Args.string({ description: 'name of a file in experiments/, or a path', required: true }),
  };
  static override flags = {
    out: Flags.string({ description: "output directory (default: the experiment's own)", helpValue: 'DIR' }),
    resume: Flags.boolean({ description: 'skip finished steps', default: true, allowNo: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Reproduce);
    const { loadExperiment } = await import('../cli/experiment.js');
    const { ExperimentLog } = await import('../cli/experiment-log.js');
    const { toolkitVersion } = await import('../results/provenance.js');
    const experiment = loadExperiment(args.experiment);
    const out = flags.out ?? experiment.out;
    const steps = this.resolveSteps(experiment, out);
    const hashes = ExperimentLog.hashes(steps, toolkitVersion());
    const { lockDirectory } = await import('../files/lock.js');
    lockDirectory(out, 'reproduce', { doing: 'reproducing an experiment', reentrant: true });
    const log = new ExperimentLog(out, flags.resume);
    const begun = Date.now();
    let incomplete = 0;
    for (const [index, step] of steps.entries()) {
      const hash = hashes[index] ?? '';
      const heading = `[${index + 1}/${steps.length}] ${step.title}`;
      if (log.isDone(hash)) {
        this.note(`${heading}: done before`);
        continue;
      }
      this.headline(`${heading}  (yoco ${[step.command, ...step.args].join(' ')})`);
      const started = Date.now();
      if (await this.runStep(step, flags.resume)) log.record(hash, step.title, started);
      else incomplete += 1;
    }
    this.note(
      `${experiment.name}: ${steps.length} steps in ${formatDuration((Date.now() - begun) / 1000)}, in ${out}`,
    );
    if (incomplete > 0) throw new RunError(`${incomplete} of ${steps.length} steps have failed cells`);
  }

  /** Puts the output directory in and refuses unknown commands before the work starts. */
  private resolveSteps(experiment: Experiment, out: string): ExperimentStep[] {
    return experiment.steps.map((step) => {
      if (!this.config.findCommand(step.command)) {
        const known = this.config.commandIDs.join(', ');
        throw new UsageError(`${experiment.name}: no command '${step.command}'; the commands are ${known}`);
      }
      return { ...step, args: step.args.map((word) => word.replaceAll('{out}', out)) };
    });
  }

  /** Runs one command in this process. False: it ran to its end, but cells of its sweep failed. */
  private async runStep(step: ExperimentStep, resume: boolean): Promise<boolean> {
    const takesResume = 'resume' in (this.config.findCommand(step.command)?.flags ?? {});
    const argv = [
      ...step.args,
      ...(takesResume && !resume ? ['--no-resume'] : []),
      ...(this.isQuiet ? ['--quiet'] : []),
    ];
    try {
      await this.config.runCommand(step.command, argv);
      return true;
    } catch (error) {
      if (!(error instanceof FailedCellsError)) throw error;
      this.caution(error.message);
      return false;
    }
  }

  private headline(text: string): void {
    if (!this.isQuiet) process.stderr.write(`${chalkStderr.bold(text)}\n`);
  }
}
