import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base-command.js';
import { contextsFlag, fillCacheFlag, modelFlags, sweepFlags } from '../cli/flags.js';
import { cellName } from '../cli/cell-name.js';
import { modelSelection } from '../cli/model-selection.js';
import type { Schema } from '../library/basics.js';

const K = 1024;

export default class ProfileThroughput extends BaseCommand {
  static override summary = 'Decoded tokens per second at each context.';
  static override description =
    'Prefills a random prompt to each context and decodes greedily behind it, batch 1, timing every token. bytes_streamed is ' +
    'what one token must read: weights, states, and keys and values in every layer that attends to them; copy_share divides ' +
    'the bytes read per second by what a large copy moves in the same run. With both architectures, a second table divides ' +
    'YOCO by the Transformer.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> --arch yoco,transformer --ctx 1k,16k,64k',
    '<%= config.bin %> <%= command.id %> --checkpoint checkpoints/needle --ctx 1m --tokens 32',
    '<%= config.bin %> <%= command.id %> --preset yoco-3b,transformer-3b --ctx 32k,1m --fill-cache',
  ];
  static override flags = {
    ctx: contextsFlag({ default: [K, 4 * K, 16 * K] }),
    tokens: Flags.integer({ description: 'tokens decoded and timed', default: 32, min: 1 }),
    warmup: Flags.integer({ description: 'tokens decoded before', default: 4, min: 0 }),
    ...fillCacheFlag,
    ...modelFlags,
    ...sweepFlags,
  };

  protected override mainTable = async (): Promise<Schema> =>
    (await import('../library/profiling.js')).THROUGHPUT_SCHEMA;

  async run(): Promise<void> {
    const { flags } = await this.parse(ProfileThroughput);
    const { chooseModels } = await import('../library/models.js');
    const { profileThroughput } = await import('../library/profiling.js');
    const { startChosenEngine } = await import('../library/engines.js');
    const output = await this.output(flags);
    const models = chooseModels(modelSelection(flags));
    const engine = await startChosenEngine(flags, this.reports());
    const profile = await this.withProgress(
      { label: 'profile-throughput', unit: 'tokens', describe: cellName },
      (onProgress) =>
        profileThroughput({
          models,
          engine,
          output,
          onProgress,
          contexts: flags.ctx,
          tokens: flags.tokens,
          warmUp: flags.warmup,
          fillCache: flags['fill-cache'],
          seed: flags.seed,
        }),
    );
    await this.finishProfile(profile, flags);
  }
}
