import { Flags } from '@oclif/core';
import { EvaluationCommand } from '../cli/evaluation-command.js';
import { evaluationFlags, listFlag } from '../cli/evaluation-flags.js';
import { contextsFlag, sweepFlags } from '../cli/flags.js';
import { modelSelection } from '../cli/model-selection.js';
import { formatTokenCount, modelLabel, RECALL_TASK_NAMES, type Schema } from '../library/basics.js';
import type { RecallKey } from '../library/evaluation.js';
import type { SweepProgress } from '../library/profiling.js';

export default class EvalRecall extends EvaluationCommand {
  static override summary = 'Recall tasks: accuracy against length, amount and the size of the state.';
  static override description =
    'Sequences of numbered symbols, made up from the seed; training draws others. A question is answered if every token of its ' +
    'answer is the likeliest. Leaves in --out: eval-recall.csv, a row per model, task, length and number of items.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> --task mqar --ctx 64,256 --items 4,16 --checkpoint runs/mqar-nano-yoco',
    '<%= config.bin %> <%= command.id %> --task needle-multi-key --ctx 1k,16k --items 8 --checkpoint runs/swa --checkpoint runs/gret --sequences 100',
  ];
  static override flags = {
    task: listFlag({
      description: `recall tasks: ${RECALL_TASK_NAMES.join(', ')}`,
      default: ['mqar'],
      helpValue: 'NAME',
    }),
    ctx: contextsFlag({ description: 'tokens of a sequence', default: [128] }),
    items: listFlag({
      description: 'how much there is to recall: pairs (mqar), entries (phone-book), needles, …',
      default: ['8'],
      helpValue: '4,16,64',
    }),
    sequences: Flags.integer({ description: 'sequences of each cell', default: 200, min: 1 }),
    ...evaluationFlags,
    ...sweepFlags,
  };

  protected override mainTable = async (): Promise<Schema> =>
    (await import('../library/evaluation.js')).RECALL_SCHEMA;

  async run(): Promise<void> {
    const { flags } = await this.parse(EvalRecall);
    const { parseItems, parseRecallTask, runRecall } = await import('../library/evaluation.js');
    const { chooseModels } = await import('../library/models.js');
    const { seed, sequences } = flags;
    const grid = {
      tasks: flags.task.map(parseRecallTask),
      lengths: flags.ctx,
      items: flags.items.map(parseItems),
    };
    const choices = chooseModels(await modelSelection(flags));
    const evaluation = await this.startEvaluation(flags, { choices, inputs: {} });
    const writer = await this.withProgress(
      {
        label: 'recall',
        unit: 'tokens',
        describe: ({ choice, key }: SweepProgress<RecallKey>) =>
          `${modelLabel(choice)}, ${key.task}, ${formatTokenCount(key.length)} tokens, ${key.items} items`,
      },
      (onProgress) => runRecall({ ...evaluation, ...grid, sequences, seed, onProgress }),
    );
    await this.finish(writer, flags);
  }
}
