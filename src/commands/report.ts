import { Args, Flags } from '@oclif/core';
import type { FlagsOf } from '../cli/base-command.js';
import { stopSignal } from '../cli/interruption.js';
import { type Given, PlainCommand } from '../cli/plain-command.js';
import { UsageError } from '../library/basics.js';

export default class Report extends PlainCommand {
  static override summary = 'Make one page of pictures and tables from a results directory.';
  static override description =
    'Writes report.html, which needs no network, and its charts as SVG files in figures/, and, where there are both architectures, ' +
    'ratios.timings.csv: YOCO beside the Transformer, whichever runs measured them. The page shows whatever of ' +
    'training, memory, prefill, decoding, needles and multiple choice the directory (or one below it) holds, and what a README.md ' +
    'there says. Charts of an earlier report are replaced. With --serve the page is shown live instead: the losses of all training runs in the ' +
    'directories grow while train.csv does, with links to everything else.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> runs/laptop',
    '<%= config.bin %> <%= command.id %> results/h200 --reference experiments/h200-reference.csv',
    '<%= config.bin %> <%= command.id %> runs/a runs/b --serve',
  ];
  static override args = {
    directory: Args.string({
      description: 'directory with result CSV files; with --serve several',
      required: true,
    }),
  };

  static override strict = false;
  static override flags = {
    reference: Flags.string({
      description:
        'CSV file with figures of others, drawn beside ours: columns figure (prefill, memory, throughput), series, context, value; may be repeated',
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'FILE',
    }),
    png: Flags.boolean({ description: 'draw every chart as PNG too', exclusive: ['serve'] }),
    serve: Flags.boolean({
      description: 'show the directories in a browser while they are written, until Ctrl-C; writes no files',
      helpGroup: 'SERVER',
    }),
    host: Flags.string({
      description: 'address to listen on (default: 127.0.0.1); 0.0.0.0 for all of this machine',
      dependsOn: ['serve'],
      helpGroup: 'SERVER',
    }),
    port: Flags.integer({
      description: 'port to listen on (default: 8080); 0 for any that is free',
      min: 0,
      max: 65535,
      dependsOn: ['serve'],
      helpGroup: 'SERVER',
    }),
  };

  protected override destinations({ args: { directory = '' }, flags: { serve = false } }: Given) {
    return serve ? [] : [{ directory }];
  }

  async run(): Promise<void> {
    const { argv, flags } = await this.parse(Report);
    const directories = argv.map(String);
    const { reference: references, png } = flags;
    if (flags.serve) {
      await this.serve(directories, flags);
      return;
    }
    const [directory = '', another] = directories;
    if (another !== undefined) {
      throw new UsageError(`a page is of one directory, ${another} is another: --serve shows several`);
    }
    const { buildReport } = await import('../library/report.js');
    process.stdout.write(`${await buildReport(directory, { references, png })}\n`);
  }

  private async serve(directories: readonly string[], flags: FlagsOf<typeof Report>): Promise<void> {
    const { serveReport } = await import('../library/report.js');
    const { isLocal } = await import('../library/serving.js');
    const { reference: references, host = '127.0.0.1', port = 8080 } = flags;
    const stop = stopSignal();
    const server = await serveReport(directories, { references, host, port });
    if (!isLocal(host))
      this.caution(`${host} may be reached from other machines, and whoever does sees the results`);
    process.stdout.write(`${server.url}\n`);
    this.note('open it in a browser; Ctrl-C ends the server');
    await stop.asked;
    await server.stop();
    stop.release();
  }
}
