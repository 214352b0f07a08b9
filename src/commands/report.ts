import { Args, Flags } from '@oclif/core';
import { PlainCommand } from '../cli/plain-command.js';

export default class Report extends PlainCommand {
  static override summary = 'Make one page of pictures and tables from a results directory.';
  static override description =
    'Writes report.html, which needs no network, and its charts as SVG files in figures/, and, where there are both architectures, ' +
    'ratios.timings.csv: YOCO beside the Transformer, whichever runs measured them. The page shows whatever of ' +
    'training, memory, prefill, decoding, needles and multiple choice the directory (or one below it) holds, and what a README.md ' +
    'there says. Charts of an earlier report are replaced.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> runs/laptop',
    '<%= config.bin %> <%= command.id %> results/h200 --reference experiments/h200-reference.csv',
  ];
  static override args = {
    directory: Args.string({ description: 'directory with result CSV files', required: true }),
  };

  static override flags = {
    reference: Flags.string({
      description:
        'CSV file with figures of others, drawn beside ours: columns figure (prefill, memory, throughput), series, context, value; may be repeated',
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'FILE',
    }),
    png: Flags.boolean({ description: 'draw every chart as PNG too' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Report);
    const { buildReport } = await import('../library/report.js');
    process.stdout.write(
      `${await buildReport(args.directory, { references: flags.reference, png: flags.png })}\n`,
    );
  }
}
