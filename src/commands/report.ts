import { Args } from '@oclif/core';
import { PlainCommand } from '../cli/plain-command.js';

export default class Report extends PlainCommand {
  static override summary = 'Make one page of pictures and tables from a results directory.';
  static override description =
    'Writes report.html, which needs no network, and its charts as SVG files in figures/, and, where there are both architectures, ' +
    'ratios.timings.csv: YOCO beside the Transformer, whichever runs measured them. The page shows whatever of ' +
    'training, memory, prefill, decoding, needles and multiple choice the directory (or one below it) holds.';
  static override examples = ['<%= config.bin %> <%= command.id %> runs/laptop'];
  static override args = {
    directory: Args.string({ description: 'directory with result CSV files', required: true }),
  };

  async run(): Promise<void> {
    const { args } = await this.parse(Report);
    const { buildReport } = await import('../report/build-report.js');
    process.stdout.write(`${await buildReport(args.directory)}\n`);
  }
}
