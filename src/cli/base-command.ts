import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Command, Interfaces } from '@oclif/core';
import { chalkStderr } from 'chalk';
import { FailedCellsError, RegressionError, UsageError } from '../errors.js';
import type { Baseline, Comparison } from '../results/compare.js';
import { printable } from '../printable.js';
import type { Communicator } from '../distributed/communicator.js';
import type { DerivedTable } from '../results/derived.js';
import type { ResultFormat } from '../results/formats.js';
import type { Row, Schema } from '../results/schema.js';
import type { ResultWriter } from '../results/writer.js';
import type { Destination } from '../files/write.js';
import { engineFlags, outputFlags, seedFlag } from './flags.js';
import { directoryOfRank } from './follower.js';
import { type DividingFlags, type Given, PlainCommand, type Started } from './plain-command.js';
import type { Progress, ProgressOptions } from './progress.js';
import type { Profile, TableOutput } from '../sweep/table.js';

/** The parsed flags of command class `C`, its base flags included. */
export type FlagsOf<C extends typeof Command> = Interfaces.InferredFlags<C['baseFlags'] & C['flags']>;

/** What `finish` needs to know of a command's flags. */
export interface FinishOptions {
  format: ResultFormat;
  /** False replaces what earlier runs left. */
  resume?: boolean;
  tolerance?: number;
  'check-report'?: string;
}

/** Parent of the commands that measure: they compute on an engine, from a seed, and leave tables of results. */
export abstract class BaseCommand extends PlainCommand {
  static override baseFlags = { ...outputFlags, ...seedFlag, ...engineFlags };

  /** Where this command writes when `--out` is absent. */
  protected directory(out: string | undefined): string {
    return out ?? `runs/${this.id ?? 'yoco'}`;
  }

  protected override destinations({ flags: { out, 'check-report': report } }: Given): readonly Destination[] {
    return [{ directory: this.directory(out) }, ...(report === undefined ? [] : [{ file: report }])];
  }

  /**
   * The engine of this rank, where all ranks divide sequences, and where it writes.
   * @throws UsageError where they are not to divide them, or there are no others
   */
  protected async startDividing(
    flags: DividingFlags,
    output: Required<TableOutput>,
  ): Promise<Started & { readonly output: Required<TableOutput> }> {
    const started = await this.startDividingRanks(flags);
    return { ...started, output: this.outputOfRank(started.communicator, output) };
  }

  /** Where this rank writes. */
  protected outputOfRank(communicator: Communicator, output: Required<TableOutput>): Required<TableOutput> {
    return { ...output, directory: directoryOfRank(communicator, output.directory, output.resume) };
  }

  /** The table that `--check` compares: the command's first. */
  protected abstract mainTable(): Promise<Schema>;

  private baseline: Baseline | undefined;

  /** Where the cells of a sweep are kept; undefined until it is known. */
  private keptIn: string | undefined;

  /** An interruption ends a sweep at once, in the middle of its work: what is kept is said before. */
  protected override progress(options: ProgressOptions): Progress {
    if (this.keptIn !== undefined && options.total > 0) {
      const again = this.argv.includes('--no-resume') ? 'without --no-resume' : 'again';
      this.note(
        `finished cells are saved in ${this.keptIn}: if interrupted, run the command ${again} to resume`,
      );
      this.keptIn = undefined;
    }
    return super.progress(options);
  }

  /** Where the tables of this run go, and what they say of it. @throws what `readCheck` does */
  protected async output(
    flags: { out?: string; check?: string; resume: boolean } & Readonly<Record<string, unknown>>,
  ): Promise<Required<TableOutput>> {
    await this.readCheck(flags.check);
    const record = { command: [this.id ?? '', ...this.argv], flags };
    this.keptIn = this.directory(flags.out);
    return { directory: this.keptIn, resume: flags.resume, record };
  }

  /** Ends a profile: its table, ratios and fits. */
  protected async finishProfile<Key extends object, Figures extends object>(
    { writer, derived }: Profile<Key, Figures>,
    options: FinishOptions,
  ): Promise<void> {
    if (writer) await this.finish(writer, options, derived);
  }

  /**
   * Reads the file of `--check` before the work: the run may replace it, and a file that cannot serve is known at once.
   *
   * @throws UsageError when there is no such file, RunError when it is no table of this command
   */
  protected async readCheck(check: string | undefined): Promise<void> {
    if (check === undefined) return;
    if (!existsSync(check)) throw new UsageError(`--check ${check}: there is no such file`);
    const { readBaseline } = await import('../results/compare.js');
    this.baseline = readBaseline(await this.mainTable(), check);
  }

  /**
   * Ends a measuring command: closes its tables, prints the first on stdout (for people with the derived tables
   * below it), says where the files are, and compares with `--check`.
   *
   * @param draw draws pictures of the tables in the directory, which may hold rows of earlier runs too; returns their files
   * @throws RunError when a cell failed or a figure regressed.
   */
  protected async finish(
    writers: ResultWriter | readonly [ResultWriter, ...ResultWriter[]],
    options: FinishOptions,
    derived: readonly DerivedTable[] = [],
    draw: () => Promise<readonly string[]> = () => Promise.resolve([]),
  ): Promise<void> {
    const all = 'schema' in writers ? ([writers] as const) : writers;
    if (this.isFollower) {
      for (const writer of all) writer.close();
      return;
    }
    const [{ schema, rows, directory }] = all;
    const { printRows } = await import('../results/printers.js');
    const { writeDerived } = await import('../results/derived.js');
    const readable = options.format === 'table' || options.format === 'md';
    const shown = [{ schema, rows }, ...(readable ? derived : [])].filter((table) => table.rows.length > 0);
    const texts = shown.map((table) =>
      printRows(table.schema, table.rows, options.format, this.tableOptions()),
    );
    process.stdout.write(texts.join('\n'));
    const files = [
      ...all.flatMap((writer) => writer.files),
      ...derived.flatMap((table) => writeDerived(directory, table, { keepOthers: options.resume ?? true })),
    ];
    for (const writer of all) writer.close();
    files.push(...(await draw()));
    this.note(`written: ${files.join(', ')}`);
    for (const line of all.flatMap((writer) => writer.remarks)) this.note(line);
    await this.compare(rows, options);
    const failed = all.reduce((sum, writer) => sum + writer.failures, 0);
    if (failed > 0) throw new FailedCellsError(`${failed} of the cells failed; column 'error' says why`);
  }

  /**
   * `--check`: says which figures are worse than in the earlier table, and writes `--check-report`.
   *
   * @throws RegressionError if a figure is worse
   */
  protected async compare(
    rows: readonly Row[],
    { tolerance = 0, 'check-report': report }: Omit<FinishOptions, 'format'>,
  ): Promise<void> {
    if (this.baseline === undefined) return;
    const { compareResults } = await import('../results/compare.js');
    const comparison = compareResults(await this.mainTable(), rows, this.baseline, tolerance);
    if (report !== undefined) await this.writeReport(comparison, report);
    const offences = comparison.rows.flatMap((row) => row.offences.map((line) => `${row.key}: ${line}`));
    for (const line of offences)
      process.stderr.write(`${chalkStderr.red('regression:')} ${printable(line)}\n`);
    if (offences.length > 0) {
      throw new RegressionError(
        `${offences.length} figures are worse than in ${this.baseline.file} by more than ${tolerance} %`,
      );
    }
    const compared = comparison.rows.reduce((sum, row) => sum + row.compared, 0);
    const repaired = comparison.rows.filter((row) => row.repaired).length;
    this.note(
      `${compared} figures agree with ${this.baseline.file} within ${tolerance} %` +
        (repaired > 0 ? `; ${repaired} rows failed there and succeeded now` : ''),
    );
  }

  private async writeReport(comparison: Comparison, file: string): Promise<void> {
    const { junitXml } = await import('../results/junit.js');
    const { makeDirectory, writeFileAtomic } = await import('../files/write.js');
    makeDirectory(dirname(file));
    writeFileAtomic(file, junitXml(comparison));
    this.note(`written: ${file}`);
  }
}
