import { Command, type Interfaces } from '@oclif/core';
import chalk, { chalkStderr } from 'chalk';
import { RunError } from '../errors.js';
import type { ResultFormat } from '../results/formats.js';
import type { ResultWriter } from '../results/writer.js';
import { engineFlags, outputFlags, seedFlag } from './flags.js';
import { createProgress, type Progress, type ProgressOptions } from './progress.js';

/** The parsed flags of command class `C`, its base flags included. */
export type FlagsOf<C extends typeof Command> = Interfaces.InferredFlags<C['baseFlags'] & C['flags']>;

/** What `finish` needs to know of a command's flags. */
export interface FinishOptions {
  format: ResultFormat;
  check?: string;
  tolerance?: number;
}

/**
 * Parent of all commands. A command for which some of these flags would do nothing names its own `baseFlags`
 * (`quietFlag` at least).
 */
export abstract class BaseCommand extends Command {
  static override baseFlags = { ...outputFlags, ...seedFlag, ...engineFlags };

  private quiet = false;

  override async init(): Promise<void> {
    await super.init();
    this.quiet = this.argv.some((word) => word === '--quiet' || word === '-q');
  }

  /** Where this command writes when `--out` is absent. */
  protected directory(out: string | undefined): string {
    return out ?? `results/${this.id ?? 'yoco'}`;
  }

  protected progress(options: Omit<ProgressOptions, 'quiet'>): Progress {
    return createProgress({ ...options, quiet: this.quiet });
  }

  /** A remark for the person at the terminal: stderr, silent with `--quiet`. */
  protected note(line: string): void {
    if (!this.quiet) process.stderr.write(`${chalkStderr.dim(line)}\n`);
  }

  /** Something the person should know although the work goes on: stderr, always. */
  protected caution(line: string): void {
    process.stderr.write(`${chalkStderr.yellow(`warning: ${line}`)}\n`);
  }

  /**
   * Ends a measuring command: closes the tables, prints the first on stdout, says where the files are, and compares
   * with `--check`.
   *
   * @throws RunError when a cell failed or a figure regressed.
   */
  protected async finish(
    writers: ResultWriter | readonly ResultWriter[],
    options: FinishOptions,
  ): Promise<void> {
    const all = 'schema' in writers ? [writers] : writers;
    for (const writer of all) writer.close();
    const [first] = all;
    if (first === undefined) return;
    const { printRows } = await import('../results/printers.js');
    process.stdout.write(printRows(first.schema, first.rows, options.format, { color: chalk.level > 0 }));
    this.note(`written: ${all.flatMap((writer) => writer.files).join(', ')}`);
    const failed = all.reduce((sum, writer) => sum + writer.failures, 0);
    if (options.check !== undefined) await this.compare(first, options.check, options.tolerance ?? 0);
    if (failed > 0) throw new RunError(`${failed} of the cells failed; column 'error' says why`);
  }

  private async compare(writer: ResultWriter, file: string, tolerance: number): Promise<void> {
    const { compareResults } = await import('../results/compare.js');
    const comparison = compareResults(writer.schema, writer.rows, file, tolerance);
    for (const line of comparison.offences)
      process.stderr.write(`${chalkStderr.red('regression:')} ${line}\n`);
    if (comparison.offences.length > 0) {
      throw new RunError(
        `${comparison.offences.length} figures are worse than in ${file} by more than ${tolerance} %`,
      );
    }
    this.note(`${comparison.compared} figures agree with ${file} within ${tolerance} %`);
  }
}
