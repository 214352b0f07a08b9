import { Flags } from '@oclif/core';
import { formatTokenCount, modelLabel } from '../library/basics.js';
import { BaseCommand } from '../cli/base-command.js';
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
import { modelSelection } from '../cli/model-selection.js';
import type { Schema } from '../library/basics.js';

const K = 1024;

export default class ProfileMemory extends BaseCommand {
  static override readonly runsOnRanks = true;
  static override summary =
    'Memory of inference against context: computed for any preset, measured where it fits.';
  static override description =
    'Weights, K/V cache, recurrent state, activations and their total, batch 1; a second table has them in three parts: weights, ' +
    'keys and values, and the rest. The computed columns follow from the ' +
    'configuration; the measured ones are what the engine allocated while it prefilled a random prompt; on CUDA ' +
    'the timings also have what was reserved for tensors at their peak and what the driver counts. With both architectures, ' +
    'another table divides the Transformer by YOCO. With --context-parallel all figures are of one device, of those that divide each ' +
    'sequence; --analytic computes them in one process, and what is measured has a further table with a row per rank. Columns with "concatenated" count the copy of one ' +
    "layer's keys and values that the official Transformer makes when it appends to its cache (torch.cat); the cache here makes none.";
  static override examples = [
    {
      description: "The paper's K/V cache of a 65B model, 80 times smaller",
      command: '<%= config.bin %> <%= command.id %> --arch yoco,transformer --preset 65b --ctx 1m --analytic',
    },
    {
      description: "The paper's 9.4 times less memory at a million tokens, 3B",
      command:
        '<%= config.bin %> <%= command.id %> --preset yoco-3b,transformer-3b --ctx 32k,1m --chunk 32k --analytic',
    },
    {
      description: "The paper's curve of that ratio: its Transformer held the logits of a whole chunk",
      command:
        '<%= config.bin %> <%= command.id %> --preset yoco-3b,transformer-3b --ctx 32k,64k,128k,256k,512k,1m --chunk 32k --chunk-logits --analytic',
    },
    {
      description: 'YOCO and compression together: keys and values in 4 bits, 65B',
      command:
        '<%= config.bin %> <%= command.id %> --arch yoco,transformer --preset 65b --ctx 512k --kv-dtype int4 --analytic',
    },
    {
      description: 'Measured on this machine up to 64k tokens',
      command:
        '<%= config.bin %> <%= command.id %> --arch yoco,transformer --ctx 1k,16k,64k --measure-up-to 64k',
    },
  ];
  static override flags = {
    ctx: contextsFlag({
      default: [256, K, 4 * K, 16 * K, 64 * K, 256 * K, K * K],
    }),
    chunk: tokenCountFlag({ description: 'tokens prefilled at a time', default: 8 * K }),
    analytic: Flags.boolean({
      description: 'compute only; without --dtype at 2 bytes per element (bfloat16)',
    }),
    ...inferenceFlags,
    'chunk-logits': Flags.boolean({
      description:
        'count the logits of a whole chunk where every token passes all layers, as in the official Transformer code',
      dependsOn: ['analytic'],
    }),
    'measure-up-to': tokenCountFlag({
      description: 'longest context that is also measured',
      default: 16 * K,
      exclusive: ['analytic'],
    }),
    ...fillCacheFlag,
    ...modelFlags,
    ...contextParallelFlag,
    ...sweepFlags,
  };

  protected override mainTable = async (): Promise<Schema> =>
    (await import('../library/profiling.js')).MEMORY_SCHEMA;

  async run(): Promise<void> {
    const { flags } = await this.parse(ProfileMemory);
    const { chooseModels } = await import('../library/models.js');
    const { profileMemory } = await import('../library/profiling.js');
    const { formatBytes } = await import('../library/basics.js');
    const { weightTypeOf } = await import('../library/engines.js');
    const asOne = await this.output(flags);
    const models = chooseModels(await modelSelection(flags));
    if (flags.analytic) this.refuseRanks();
    const { output, engine, communicator } = flags.analytic
      ? { output: asOne, engine: undefined, communicator: undefined }
      : await this.startDividing(flags, asOne);
    const storage = engine?.storage ?? flags.dtype ?? 'bfloat16';
    const asked = flags['kv-dtype'] ?? storage;
    const cacheType = engine?.cacheType ?? (asked === storage ? null : asked);
    const weightType = engine ? weightTypeOf(engine) : (flags.compute ?? null);
    this.note(
      `computed for batch 1, ${storage}, prefill in chunks of ${formatTokenCount(flags.chunk)} tokens` +
        (cacheType === null ? '' : `, keys and values in ${cacheType}`) +
        (weightType === null ? '' : `, weights of layers in ${weightType}`) +
        (flags['chunk-logits']
          ? ', with the logits of a whole chunk where every token passes all layers'
          : ''),
    );
    const profile = await this.withProgress(
      { label: 'profile-memory', unit: 'tokens', describe: cellName },
      (onProgress) =>
        profileMemory({
          models,
          engine,
          communicator,
          contextParallel: flags['context-parallel'],
          storage,
          output,
          onProgress,
          contexts: flags.ctx,
          chunkSize: flags.chunk,
          ...(engine === undefined && { cacheType, compute: weightType }),
          chunkLogits: flags['chunk-logits'],
          measureUpTo: flags['measure-up-to'],
          fillCache: flags['fill-cache'],
          seed: flags.seed,
          onNotMeasured: ({ choice, context, neededBytes, availableBytes }) => {
            this.note(
              `${modelLabel(choice)} is not measured from context ${formatTokenCount(context)} on: it needs ${formatBytes(neededBytes)}, ${formatBytes(availableBytes)} are available`,
            );
          },
        }),
    );
    await this.finishProfile(profile, flags);
    communicator?.close();
  }
}
