import { Flags } from '@oclif/core';
import { formatTokenCount, modelLabel } from '../library/basics.js';
import { BaseCommand } from '../cli/base-command.js';
import { inferenceFlags, contextParallelFlag, contextsFlag, modelFlags, sweepFlags } from '../cli/flags.js';
import { parseTokenCount } from '../cli/sizes.js';
import { cellName } from '../cli/cell-name.js';
import { modelSelection } from '../cli/model-selection.js';
import type { Schema } from '../library/basics.js';

const K = 1024;

export default class ProfilePrefill extends BaseCommand {
  static override readonly runsOnRanks = true;
  static override summary = 'Time to the first token against context, with and without the early exit.';
  static override description =
    'Prefills random prompts, batch 1, after a warm-up, and reports median, mean, standard deviation, extremes, tokens/s and ' +
    'FLOP/s (matrix products, by formula), and the exponent with which time grows with context. product_share divides FLOP/s by what a ' +
    'large matrix product reaches directly after each run. With both architectures, a ' +
    'further table divides the Transformer by YOCO. Contexts that do not fit in memory are refused before they start, and ' +
    'the sweep continues. Where a prefill takes too long, --sample-chunks times some of its chunks after random keys and values ' +
    'and sums up all of them, interpolated; such rows have fewer prefilled_tokens than context.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> --arch yoco,transformer --ctx 1k,4k,16k',
    '<%= config.bin %> <%= command.id %> --ctx 64k,1m --early-exit on --repetitions 1',
    '<%= config.bin %> <%= command.id %> --self-decoder gated-retention,sliding-window --ctx 16k --format md',
    '<%= config.bin %> <%= command.id %> --arch transformer --ctx 1m --sample-chunks 6 --repetitions 1',
    '<%= config.bin %> <%= command.id %> --ctx 4k --check results/laptop/profile-prefill.timings.csv --tolerance 20',
  ];
  static override flags = {
    ctx: contextsFlag({ default: [K, 4 * K, 16 * K] }),
    chunk: Flags.custom<number | 'auto'>({
      description: 'tokens prefilled at a time; auto measures which size is fastest',
      default: 'auto',
      helpValue: 'auto|8k',
      parse: (text) => Promise.resolve(text === 'auto' ? text : parseTokenCount(text)),
    })(),
    'early-exit': Flags.option({
      options: ['on', 'off'] as const,
      description: 'off runs every layer at every position: what the early exit saves',
      multiple: true,
      multipleNonGreedy: true,
      delimiter: ',',
      default: ['on', 'off'],
      helpValue: 'on,off',
    })(),
    warmup: Flags.integer({
      description: 'runs that are not counted, of two chunks at most',
      default: 1,
      min: 0,
    }),
    repetitions: Flags.integer({ description: 'runs that are counted', default: 5, min: 1 }),
    'sample-chunks': Flags.integer({
      description: 'time only so many chunks and the last, and interpolate the others',
      min: 2,
    }),
    ...modelFlags,
    ...inferenceFlags,
    ...contextParallelFlag,
    ...sweepFlags,
  };

  protected override mainTable = async (): Promise<Schema> =>
    (await import('../library/profiling.js')).PREFILL_SCHEMA;

  async run(): Promise<void> {
    const { flags } = await this.parse(ProfilePrefill);
    const { chooseModels } = await import('../library/models.js');
    const { profilePrefill } = await import('../library/profiling.js');
    const asOne = await this.output(flags);
    const models = chooseModels(await modelSelection(flags));
    const { output, engine, communicator } = await this.startDividing(flags, asOne);
    const profile = await this.withProgress(
      { label: 'profile-prefill', unit: 'tokens', describe: cellName },
      (onProgress) =>
        profilePrefill({
          models,
          engine,
          communicator,
          output,
          onProgress,
          contexts: flags.ctx,
          earlyExit: flags['early-exit'].map((exit) => exit === 'on'),
          chunkSize: flags.chunk,
          warmUp: flags.warmup,
          repetitions: flags.repetitions,
          sampleChunks: flags['sample-chunks'],
          seed: flags.seed,
          onChunkSize: (choice, tokens) => {
            this.note(`${modelLabel(choice)}: fastest in chunks of ${formatTokenCount(tokens)} tokens`);
          },
        }),
    );
    await this.finishProfile(profile, flags);
    communicator.close();
  }
}
