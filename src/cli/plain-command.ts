import { Command, type Interfaces } from '@oclif/core';
import chalk, { chalkStderr } from 'chalk';
import { printable } from '../printable.js';
import { observeHub } from '../hub/observer.js';
import type { Communicator } from '../distributed/communicator.js';
import { type Ranks, ranksOf } from '../distributed/ranks.js';
import type { Engine } from '../engines/engine.js';
import type { EngineFlags } from '../engines/start.js';
import { UsageError } from '../errors.js';
import { type Destination, requireWritable } from '../files/write.js';
import { quietFlag } from './flags.js';
import { createProgress, type Progress, type ProgressOptions } from './progress.js';

/** Lines that belong to the one before are indented. */
const indentation = (line: string): string => /^ */.exec(line)?.[0] ?? '';

/** Less is fetched at once. */
const WORTH_SHOWING_BYTES = 1e6;

/** How far some work is, of how much. */
interface Done {
  readonly done: number;
  readonly total: number;
}

/** A process of a run, alone or one of several ranks. */
export interface Started {
  readonly engine: Engine;
  readonly communicator: Communicator;
}

/** What a command was given that names places to write to. */
export interface Given {
  readonly flags: { readonly out?: string; readonly 'check-report'?: string; readonly serve?: boolean };
  readonly args: Readonly<Record<string, string | undefined>>;
}

export interface DividingFlags extends EngineFlags {
  readonly 'context-parallel': number;
}

/** Parent of all commands: how they speak to the person at the terminal. */
export abstract class PlainCommand extends Command {
  static override baseFlags = quietFlag;

  /** Whether the command can be started as several ranks. */
  static readonly runsOnRanks: boolean = false;

  protected isQuiet = false;
  /** Whether another rank speaks and writes for this one. */
  protected isFollower = false;
  protected isVerbose = false;

  override async init(): Promise<void> {
    await super.init();
    this.isQuiet = this.argv.some((word) => word === '--quiet' || word === '-q');
    this.isVerbose = this.argv.some((word) => word === '--verbose' || word === '-v');
    if (!(this.constructor as typeof PlainCommand).runsOnRanks) this.refuseRanks();
    this.showDownloads();
  }

  /** @throws UsageError also where one of `destinations` cannot be written: nothing is done before that is known */
  protected override async parse<
    F extends Record<string, unknown>,
    B extends Record<string, unknown>,
    A extends Record<string, unknown>,
  >(options?: Interfaces.Input<F, B, A>, argv?: string[]): Promise<Interfaces.ParserOutput<F, B, A>> {
    const parsed = await super.parse(options, argv);
    this.requireDestinations(this.destinations(parsed as Given));
    return parsed;
  }

  /** Where the command is going to write, as far as its words say so. */
  protected destinations({ flags: { out } }: Given): readonly Destination[] {
    return out === undefined ? [] : [{ directory: out }];
  }

  /** Refuses destinations that this process cannot write. Ranks beside the first write elsewhere. @throws UsageError */
  protected requireDestinations(destinations: readonly Destination[]): void {
    if ((ranksOf(process.env)?.rank ?? 0) === 0) destinations.forEach(requireWritable);
  }

  protected override async finally(error: Error | undefined): Promise<void> {
    observeHub(null);
    await super.finally(error);
  }

  /** Whatever is fetched from a hub is shown, wherever in a command that happens. */
  private showDownloads(): void {
    let progress: Progress | undefined;
    observeHub({
      progress: ({ done, total, file }) => {
        if (total < WORTH_SHOWING_BYTES) return;
        progress ??= this.progress({ label: 'download', total: Math.ceil(total / 1e6), unit: 'MB' });
        progress.note(file);
        progress.update(done / 1e6);
      },
      end: () => {
        progress?.stop();
        progress = undefined;
      },
      note: (line) => {
        this.note(line);
      },
    });
  }

  /**
   * Several processes that each believe to be alone would do the same work and write the same files.
   * @throws UsageError where a launcher started several
   */
  protected refuseRanks(): void {
    const ranks = ranksOf(process.env);
    if (ranks === null) return;
    throw new UsageError(
      `${this.id ?? 'this command'} runs as one process, but ${ranks.launcher} started ${ranks.size}: start it once`,
    );
  }

  /** The place of this process among several, of which only the first speaks. */
  protected ranks(): Ranks | null {
    const ranks = ranksOf(process.env);
    this.isFollower = ranks !== null && ranks.rank > 0;
    if (this.isFollower) this.isQuiet = true;
    return ranks;
  }

  /** The engine of this rank, and the other ranks of the run. */
  protected async startRanks(flags: EngineFlags): Promise<Started> {
    const { startOnRank } = await import('../library/ranks.js');
    return startOnRank(flags, this.ranks(), this.reports());
  }

  /**
   * The same where all ranks divide sequences.
   * @throws UsageError where they are not to, or there are no others
   */
  protected async startDividingRanks(flags: DividingFlags): Promise<Started> {
    const { requireDividing } = await import('../library/ranks.js');
    requireDividing(this.ranks(), flags['context-parallel']);
    return this.startRanks(flags);
  }

  /** How tables are printed on stdout: a terminal has colors and a width. */
  protected tableOptions(): { color: boolean; width?: number } {
    // A terminal without a size, as mpirun makes it, says 0.
    return { color: chalk.level > 0, width: process.stdout.columns || undefined };
  }

  protected progress(options: ProgressOptions): Progress {
    return createProgress({ ...options, quiet: this.isQuiet });
  }

  /**
   * Shows how far some work is, as it reports it.
   * @param describe the remark beside the bar: the cell at work
   */
  protected async withProgress<Result, State extends Done>(
    { label, unit, describe }: { label: string; unit: string; describe: (state: State) => string },
    work: (onProgress: (state: State) => void) => Promise<Result>,
  ): Promise<Result> {
    let progress: Progress | undefined;
    let remark = '';
    try {
      return await work((state) => {
        progress ??= this.progress({ label, unit, total: state.total });
        const line = describe(state);
        if (line !== remark) progress.note((remark = line));
        progress.update(state.done);
      });
    } finally {
      progress?.stop();
    }
  }

  /** A remark for the person at the terminal: stderr, silent with `--quiet`. */
  protected note(line: string): void {
    if (!this.isQuiet) process.stderr.write(`${chalkStderr.dim(indentation(line) + printable(line))}\n`);
  }

  /** What the library has to tell: remarks, and with `--verbose` their details. */
  protected reports(): { note: (line: string) => void; detail: (line: string) => void } {
    return {
      note: (line) => {
        this.note(line);
      },
      detail: (line) => {
        if (this.isVerbose) this.note(line);
      },
    };
  }

  /** Something the person should know although the work continues: stderr, always. */
  protected caution(line: string): void {
    process.stderr.write(`${chalkStderr.yellow(`warning: ${printable(line)}`)}\n`);
  }
}
