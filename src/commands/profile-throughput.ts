import { Flags } from '@oclif/core';
import { formatTokenCount, modelLabel, UsageError } from '../library/basics.js';
import { BaseCommand, type FlagsOf } from '../cli/base-command.js';
import {
  inferenceFlags,
  contextParallelFlag,
  contextsFlag,
  fillCacheFlag,
  modelFlags,
  sweepFlags,
  tokenCountFlag,
} from '../cli/flags.js';
import { cellName } from '../cli/cell-name.js';
import { parseBatch, parseByteCount } from '../cli/sizes.js';
import { modelSelection } from '../cli/model-selection.js';
import type { Schema } from '../library/basics.js';
import type { BatchChange } from '../library/profiling.js';

const K = 1024;

const PHASES = ['decode', 'end-to-end'] as const;
type Phase = (typeof PHASES)[number];

/** Flags that one phase understands and the other does not. */
const FLAGS_OF_PHASE: Readonly<Record<Phase, readonly string[]>> = {
  decode: ['tokens', 'fill-cache', 'context-parallel'],
  'end-to-end': ['generate', 'batch', 'memory', 'repetitions', 'sample-chunks', 'sample-steps'],
};

/** `1`, `1,8`, `auto` or `1,auto`. */
function parseBatches(text: string): (number | 'auto')[] {
  return [...new Set(text.split(',').map(parseBatch))];
}

export default class ProfileThroughput extends BaseCommand {
  static override readonly runsOnRanks = true;
  static override summary =
    'Tokens per second at each context: of decoding, or of prefill and generation together.';
  static override description =
    '--phase decode prefills a random prompt to each context and decodes greedily after it, batch 1, timing every token. bytes_streamed is ' +
    'what one token must read: weights, states, and keys and values in every layer that attends to them; copy_share divides ' +
    'the bytes read per second by what a large copy moves in the same run. ' +
    "--phase end-to-end measures as the paper's Figure 10: of each context, the last --generate tokens are generated and the others are the " +
    'prompt. tokens_per_second is the number of generated tokens of all sequences divided by the whole time, prefill included. ' +
    'Where that takes too long, --sample-chunks and --sample-steps time parts of it; such rows have estimated = true. With both ' +
    'architectures, a second table divides YOCO by the Transformer.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> --arch yoco,transformer --ctx 1k,16k,64k',
    '<%= config.bin %> <%= command.id %> --checkpoint checkpoints/needle --ctx 1m --tokens 32',
    '<%= config.bin %> <%= command.id %> --preset yoco-3b,transformer-3b --ctx 32k,1m --fill-cache',
    '<%= config.bin %> <%= command.id %> --phase end-to-end --arch yoco,transformer --ctx 4k,16k',
    '<%= config.bin %> <%= command.id %> --phase end-to-end --preset yoco-3b,transformer-3b --ctx 32k,512k --batch 1,auto',
  ];
  static override flags = {
    phase: Flags.option({
      options: PHASES,
      description: 'what is timed: decoding alone, or prefill and generation together',
      default: 'decode' as const,
    })(),
    ctx: contextsFlag({ default: [K, 4 * K, 16 * K] }),
    tokens: Flags.integer({ description: 'decode: tokens decoded and timed', default: 32, min: 1 }),
    warmup: Flags.integer({ description: 'tokens decoded before', default: 4, min: 0 }),
    generate: tokenCountFlag({
      description:
        'end-to-end: tokens generated of each context (default: 1024, or half of a context below 2k)',
      helpValue: '1k',
    }),
    batch: Flags.custom<(number | 'auto')[]>({
      description:
        'end-to-end: sequences side by side, or several separated by commas; auto: the most that fit in memory, at most 256 (default: 1)',
      helpValue: '1,auto',
      parse: (text) => Promise.resolve(parseBatches(text)),
    })(),
    memory: Flags.custom<number>({
      description:
        'end-to-end: what --batch auto may fill, weights included, such as 80GB for another card (default: what is free)',
      helpValue: 'BYTES',
      parse: (text) => Promise.resolve(parseByteCount(text)),
    })(),
    repetitions: Flags.integer({ description: 'end-to-end: runs that are counted (default: 1)', min: 1 }),
    'sample-chunks': Flags.integer({
      description:
        'end-to-end: time only so many chunks of the prefill and the last, and interpolate the others',
      min: 2,
    }),
    'sample-steps': Flags.integer({
      description: 'end-to-end: time only so many decoding steps, in the middle of the generation',
      min: 1,
    }),
    ...fillCacheFlag,
    ...modelFlags,
    ...inferenceFlags,
    ...contextParallelFlag,
    ...sweepFlags,
  };

  private phase: Phase = 'decode';

  protected override mainTable = async (): Promise<Schema> => {
    const { END_TO_END_SCHEMA, THROUGHPUT_SCHEMA } = await import('../library/profiling.js');
    return this.phase === 'decode' ? THROUGHPUT_SCHEMA : END_TO_END_SCHEMA;
  };

  async run(): Promise<void> {
    const { flags, metadata } = await this.parse(ProfileThroughput);
    const given = Object.keys(flags).filter((name) => metadata.flags[name]?.setFromDefault !== true);
    requireFlagsOf(flags.phase, given);
    if (flags.memory !== undefined && !flags.batch?.includes('auto')) {
      throw new UsageError('--memory is for --batch auto: leave it out, or give --batch auto');
    }
    this.phase = flags.phase;
    await (flags.phase === 'decode' ? this.decode(flags) : this.endToEnd(flags));
  }

  private async decode(flags: FlagsOf<typeof ProfileThroughput>): Promise<void> {
    const { profileThroughput } = await import('../library/profiling.js');
    const common = await this.common(flags);
    const profile = await this.withProgress(
      { label: 'profile-throughput', unit: 'tokens', describe: cellName },
      (onProgress) =>
        profileThroughput({
          ...common,
          onProgress,
          tokens: flags.tokens,
          fillCache: flags['fill-cache'],
        }),
    );
    await this.finishProfile(profile, flags);
    common.communicator.close();
  }

  private async endToEnd(flags: FlagsOf<typeof ProfileThroughput>): Promise<void> {
    const { profileEndToEnd } = await import('../library/profiling.js');
    const common = await this.common(flags);
    const profile = await this.withProgress(
      { label: 'profile-throughput', unit: 'tokens', describe: cellName },
      (onProgress) =>
        profileEndToEnd({
          ...common,
          onProgress,
          batches: flags.batch,
          memoryBytes: flags.memory,
          generate: flags.generate,
          repetitions: flags.repetitions,
          sampleChunks: flags['sample-chunks'],
          sampleSteps: flags['sample-steps'],
          onBatch: (change) => {
            this.note(batchNote(change));
          },
        }),
    );
    const estimates = profile.cells.filter(({ estimated }) => estimated === true).length;
    if (estimates > 0) {
      this.note(
        `${estimates} of the rows are estimates: chunks or decoding steps were sampled (column estimated)`,
      );
    }
    await this.finishProfile(profile, flags);
  }

  /** What both phases take. */
  private async common(flags: FlagsOf<typeof ProfileThroughput>) {
    const { chooseModels } = await import('../library/models.js');
    const asOne = await this.output(flags);
    const models = chooseModels(await modelSelection(flags));
    const { output, engine, communicator } = await this.startDividing(flags, asOne);
    return {
      models,
      engine,
      communicator,
      output,
      contexts: flags.ctx,
      warmUp: flags.warmup,
      seed: flags.seed,
    };
  }
}

/** @throws UsageError for a flag that the phase does not understand */
function requireFlagsOf(phase: Phase, given: readonly string[]): void {
  const other = phase === 'decode' ? 'end-to-end' : 'decode';
  const foreign = FLAGS_OF_PHASE[other].find((name) => given.includes(name));
  if (foreign !== undefined) {
    throw new UsageError(`--${foreign} is for --phase ${other}: leave it out, or give --phase ${other}`);
  }
}

function batchNote({ choice, context, batch, tooMany }: BatchChange): string {
  const where = `${modelLabel(choice)}, context ${formatTokenCount(context)}`;
  return tooMany === null
    ? `${where}: ${batch} sequences fit by formula`
    : `${where}: ${tooMany} sequences ran out of memory; ${batch} are tried`;
}
