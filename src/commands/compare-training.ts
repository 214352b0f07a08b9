import { Args, Flags } from '@oclif/core';
import { outputFlags } from '../cli/flags.js';
import { type Given, PlainCommand } from '../cli/plain-command.js';
import { FailedCellsError, UsageError } from '../library/basics.js';

const DEFAULT_DIRECTORY = 'runs/compare-training';

export default class CompareTraining extends PlainCommand {
  static override summary =
    'Compare finished training runs: best recipes, losses, and how they scale with size.';
  static override description =
    'Reads every run of yoco train below the directories (train.csv, train.run.json, held-out.csv; no checkpoints) and writes ' +
    'runs.csv (a row for each run and held-out text), comparison.csv (each architecture by its best recipe: mean and standard ' +
    'error over seeds, and the gap to the Transformer, among runs of the same layers x width, tokens and texts) and scaling.csv ' +
    '(power laws of loss against size, where an architecture has at least four sizes). yoco report draws them. Runs that are ' +
    'not finished are rows with the reason.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> runs/quality-ladder',
    '<%= config.bin %> <%= command.id %> runs/recipes runs/ladder --matmul-flops 7.2e14 --out runs/quality',
  ];
  static override args = {
    directory: Args.string({
      description: 'directory with training runs in it or below it; several may be given',
      required: true,
      ignoreStdin: true,
    }),
  };
  static override strict = false;
  static override flags = {
    'matmul-flops': Flags.custom<number>({
      description: 'measured operations per second of large matrix products: gives the column mfu',
      helpValue: 'NUMBER',
      parse: (text) => Promise.resolve(parseRate(text)),
    })(),
    format: outputFlags.format,
    out: outputFlags.out,
  };

  protected override destinations({ flags }: Given) {
    return [{ directory: flags.out ?? DEFAULT_DIRECTORY }];
  }

  async run(): Promise<void> {
    const { argv, flags } = await this.parse(CompareTraining);
    const { compareTraining } = await import('../library/training.js');
    const { printRows } = await import('../library/results.js');
    const { comparison, scaling, leftOut, files } = compareTraining({
      directories: argv.map(String),
      matmulFlops: flags['matmul-flops'],
      output: {
        directory: flags.out ?? DEFAULT_DIRECTORY,
        record: { command: [this.id ?? 'compare-training', ...this.argv], flags },
      },
    });
    const isReadable = flags.format === 'table' || flags.format === 'md';
    const shown = [comparison, ...(isReadable && scaling.rows.length > 0 ? [scaling] : [])];
    const texts = shown.map(({ schema, rows }) => printRows(schema, rows, flags.format, this.tableOptions()));
    process.stdout.write(texts.join('\n'));
    this.note(`written: ${files.join(', ')}`);
    for (const { run, reason } of leftOut) this.caution(`${run} is left out: ${reason}`);
    if (leftOut.length > 0) {
      throw new FailedCellsError(
        `${leftOut.length} of the runs are left out; column 'error' of runs.csv says why`,
      );
    }
  }
}

function parseRate(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value) && value > 0) return value;
  throw new UsageError(`'${text}' is not a rate: write operations per second, such as 7.2e14`);
}
