import { Flags } from '@oclif/core';
import { sweepFlags } from '../cli/flags.js';
import { batchFlag, evaluationFlags, listFlag, maxContextFlag } from '../cli/evaluation-flags.js';
import { modelSelection } from '../cli/model-selection.js';
import { TaskCommand } from '../cli/task-command.js';
import type { Schema } from '../library/basics.js';

export default class EvalMmlu extends TaskCommand {
  static override summary =
    'Multiple-choice questions as in MMLU: accuracy by subject, category and on average.';
  static override description =
    'The answer is the likeliest of " A", " B", " C", " D" after a prompt with examples (Hendrycks et al. 2021); a prompt that ' +
    'would be too long has fewer, and column shots says how many fitted on average. Leaves in --out: ' +
    'eval-mmlu.csv (subjects, categories, micro and macro averages with standard errors; several models are compared with the ' +
    'first on the same questions) and eval-mmlu-questions.csv (every question). Without --data it asks the 48 questions ' +
    "of 'yoco-sample', which come with this toolkit and are not MMLU.";
  static override examples = [
    '<%= config.bin %> <%= command.id %> --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> --data data/mmlu --checkpoint runs/yoco --checkpoint runs/transformer --shots 0',
    '<%= config.bin %> data fetch mmlu && <%= config.bin %> <%= command.id %> --data mmlu --checkpoint runs/yoco',
    '<%= config.bin %> <%= command.id %> --data data/mmlu --checkpoint runs/yoco --subjects astronomy,virology --limit 20',
    '<%= config.bin %> <%= command.id %> --preset tiny --arch yoco,transformer --format md',
  ];
  static override flags = {
    ...evaluationFlags,
    ...sweepFlags,
    data: Flags.string({
      description:
        'directory with dev/, val/ and test/ in the layout of MMLU, mmlu for what data fetch mmlu has put into the cache, or hf:owner/name (default: our own 48 questions)',
      helpValue: 'DIR',
      helpGroup: 'DATA',
    }),
    shots: Flags.integer({ description: 'examples in a prompt', default: 5, min: 0, helpGroup: 'DATA' }),
    subjects: listFlag({
      description: 'subjects, separated by commas (default: all)',
      helpValue: 'astronomy,virology',
      helpGroup: 'DATA',
    }),
    split: Flags.option({
      options: ['test', 'val'] as const,
      description: 'which questions are asked',
      default: 'test',
      helpGroup: 'DATA',
    })(),
    limit: Flags.integer({
      description: 'questions of each subject, from the first',
      min: 1,
      helpGroup: 'DATA',
    }),
    'max-context': maxContextFlag,
    batch: batchFlag(),
  };

  protected override mainTable = async (): Promise<Schema> =>
    (await import('../library/evaluation.js')).MMLU_SUMMARY;

  async run(): Promise<void> {
    const { flags } = await this.parse(EvalMmlu);
    const { loadMmlu, mmluTables, sampleDirectory } = await import('../library/evaluation.js');
    const { chooseModels } = await import('../library/models.js');
    const { localMmlu } = await import('../library/hub.js');
    const set = loadMmlu(flags.data === undefined ? sampleDirectory() : await localMmlu(flags.data), flags);
    await this.ask(flags, {
      choices: chooseModels(await modelSelection(flags)),
      ...{ tasks: set.subjects, tables: mmluTables(set), label: set.name, unit: 'questions' },
      inputs: { [set.name]: set.sha256 },
      settings: { shots: flags.shots },
    });
  }
}
