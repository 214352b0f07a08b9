import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base-command.js';
import { contextsFlag, fillCacheFlag, modelFlags, sweepFlags } from '../cli/flags.js';
import { modelSelection } from '../cli/model-selection.js';

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

  async run(): Promise<void> {
    const { flags } = await this.parse(ProfileThroughput);
    const { chooseModels } = await import('../sweep/models.js');
    const { profileThroughput } = await import('../profiling/profile-throughput.js');
    const { writer, derived } = await profileThroughput(
      { ...flags, models: chooseModels(modelSelection(flags)) },
      this.context(flags),
    );
    await this.finish(writer, flags, derived);
  }
}
