import { existsSync } from 'node:fs';
import type { Command, Interfaces } from '@oclif/core';
import chalk, { chalkStderr } from 'chalk';
import { FailedCellsError, RunError, UsageError } from '../errors.js';
import type { DerivedTable } from '../results/derived.js';
import type { ResultFormat } from '../results/formats.js';
import type { ResultWriter } from '../results/writer.js';
import { engineFlags, outputFlags, seedFlag } from './flags.js';
import { PlainCommand } from './plain-command.js';
import type { RunContext } from '../sweep/run-context.js';
import type { Profile, TableOutput } from '../sweep/table.js';

/** The parsed flags of command class `C`, its base flags included. */
export type FlagsOf<C extends typeof Command> = Interfaces.InferredFlags<C['baseFlags'] & C['flags']>;

/** What `finish` needs to know of a command's flags. */
export interface FinishOptions {
  format: ResultFormat;
  check?: string;
  tolerance?: number;
}

/** Parent of the commands that measure: they compute on an engine, from a seed, and leave tables of results. */
export abstract class BaseCommand extends PlainCommand {
  static override baseFlags = { ...outputFlags, ...seedFlag, ...engineFlags };

  /** Where this command writes when `--out` is absent. */
  protected directory(out: string | undefined): string {
    return out ?? `runs/${this.id ?? 'yoco'}`;
  }

  /** This run of the command, as the library is to know it. */
  protected context(flags: { out?: string; check?: string } & Readonly<Record<string, unknown>>): RunContext {
    this.requireBaseline(flags.check);
    return {
      command: [this.id ?? '', ...this.argv],
      flags,
      directory: this.directory(flags.out),
      progress: (options) => this.progress(options),
      note: (line) => {
        this.note(line);
      },
    };
  }

  /** Where the tables of this run go, and what they say of it. */
  protected output(
    flags: { out?: string; check?: string; resume: boolean } & Record<string, unknown>,
  ): TableOutput {
    const { directory, command } = this.context(flags);
    return { directory, resume: flags.resume, record: { command, flags } };
  }

  /** Ends a profile: its table, ratios and fits. */
  protected async finishProfile<Key extends object, Figures extends object>(
    { writer, derived }: Profile<Key, Figures>,
    options: FinishOptions,
  ): Promise<void> {
    if (writer) await this.finish(writer, options, derived);
  }

  /** Says before the work rather than after it that `--check` names no file. */
  protected requireBaseline(check: string | undefined): void {
    if (check !== undefined && !existsSync(check)) {
      throw new UsageError(`--check ${check}: there is no such file`);
    }
  }

  /**
   * Ends a measuring command: closes its tables, prints the first on stdout (for people with the derived tables
   * below it), says where the files are, and compares with `--check`.
   *
   * @throws RunError when a cell failed or a figure regressed.
   */
  protected async finish(
    writers: ResultWriter | readonly [ResultWriter, ...ResultWriter[]],
    options: FinishOptions,
    derived: readonly DerivedTable[] = [],
  ): Promise<void> {
    const all = 'schema' in writers ? ([writers] as const) : writers;
    const [{ schema, rows, directory }] = all;
    const { printRows } = await import('../results/printers.js');
    const { writeDerived } = await import('../results/derived.js');
    const readable = options.format === 'table' || options.format === 'md';
    const shown = [{ schema, rows }, ...(readable ? derived : [])].filter((table) => table.rows.length > 0);
    const texts = shown.map((table) =>
      printRows(table.schema, table.rows, options.format, { color: chalk.level > 0 }),
    );
    process.stdout.write(texts.join('\n'));
    const files = [
      ...all.flatMap((writer) => writer.files),
      ...derived.flatMap((table) => writeDerived(directory, table)),
    ];
    for (const writer of all) writer.close();
    this.note(`written: ${files.join(', ')}`);
    if (options.check !== undefined)
      await this.compare({ schema, rows }, options.check, options.tolerance ?? 0);
    const failed = all.reduce((sum, writer) => sum + writer.failures, 0);
    if (failed > 0) throw new FailedCellsError(`${failed} of the cells failed; column 'error' says why`);
  }

  /** `--check`: says which figures are worse than in an earlier CSV. @throws RunError if there are any */
  protected async compare({ schema, rows }: DerivedTable, file: string, tolerance: number): Promise<void> {
    const { compareResults } = await import('../results/compare.js');
    const comparison = compareResults(schema, rows, file, tolerance);
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
