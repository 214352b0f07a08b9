import { Flags } from '@oclif/core';
import { sweepFlags } from '../cli/flags.js';
import { batchFlag, evaluationFlags, listFlag, maxContextFlag } from '../cli/evaluation-flags.js';
import { modelSelection } from '../cli/model-selection.js';
import { TaskCommand } from '../cli/task-command.js';
import { UsageError, type Schema } from '../library/basics.js';

/** The tasks of `data/tasks/choice-tasks.ts`, repeated here so that `--help` loads nothing. */
const TASKS = [
  ...['arc-easy', 'arc-challenge', 'piqa', 'boolq', 'openbookqa', 'winogrande', 'lambada'],
  ...['hellaswag', 'sciq'],
];

export default class Eval extends TaskCommand {
  static override summary = "The tasks of the paper's harness table: accuracy by likelihood.";
  static override description =
    `Tasks: ${TASKS.join(', ')}. The likeliest continuation is the answer (acc); accuracy_normalized divides by its ` +
    'characters (acc_norm). Winogrande scores what follows either name; LAMBADA asks for exactly the last word, and gives its ' +
    'perplexity. SciQ has the fields of the Hugging Face set. With --shots, examples are drawn from a train split beside the ' +
    'file: arc_easy_train.jsonl for arc_easy.jsonl. Leaves in ' +
    '--out: eval.csv (tasks and their average, with standard errors; several models are compared with the first on the same ' +
    'items) and eval-items.csv (every item).';
  static override examples = [
    '<%= config.bin %> <%= command.id %> --data data/tasks --checkpoint runs/books',
    '<%= config.bin %> data fetch hellaswag && <%= config.bin %> <%= command.id %> --tasks hellaswag --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> --data data/tasks --tasks arc-easy,piqa --limit 200 --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> --data data/tasks --tasks hellaswag,arc-easy --shots 5 --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> --data data/tasks --batch 16 --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> --data data/tasks --checkpoint runs/yoco --checkpoint runs/transformer --format md',
  ];
  static override flags = {
    ...evaluationFlags,
    ...sweepFlags,
    data: Flags.string({
      description:
        'directory with arc_easy.jsonl, piqa.jsonl, … (one {query, choices, gold} a line), or hf:owner/name (default: what data fetch has put into the cache)',
      helpValue: 'DIR',
      helpGroup: 'DATA',
    }),
    tasks: listFlag({
      description: 'tasks, separated by commas (default: all whose file is there)',
      helpValue: 'arc-easy,piqa',
      helpGroup: 'DATA',
    }),
    limit: Flags.integer({ description: 'items of each task, from the first', min: 1, helpGroup: 'DATA' }),
    shots: Flags.integer({
      description: 'solved examples before each item, drawn by --seed from the train split',
      default: 0,
      min: 0,
      helpGroup: 'DATA',
    }),
    'max-context': maxContextFlag,
    batch: batchFlag(),
  };

  protected override mainTable = async (): Promise<Schema> =>
    (await import('../library/evaluation.js')).TASK_SUMMARY;

  async run(): Promise<void> {
    const { flags } = await this.parse(Eval);
    const { choiceTables, hasChoiceTask, loadChoiceTask } = await import('../library/evaluation.js');
    const { chooseModels } = await import('../library/models.js');
    const { localTasks } = await import('../library/hub.js');
    const data = await localTasks(flags.data);
    const present = TASKS.filter((name) => hasChoiceTask(name, data));
    if (flags.tasks === undefined && present.length === 0) {
      throw new UsageError(`${data} has no file of a task: arc_easy.jsonl, piqa.jsonl, … (see --help)`);
    }
    const { limit, shots, seed } = flags;
    const names = [...new Set(flags.tasks ?? present)];
    const tasks = names.map((name) => loadChoiceTask(name, data, { limit, shots, seed }));
    await this.ask(flags, {
      choices: chooseModels(await modelSelection(flags)),
      ...{ tasks, tables: choiceTables, label: 'eval', unit: 'items' },
      inputs: Object.fromEntries(tasks.map(({ name, sha256 }) => [name, sha256])),
      settings: shots > 0 ? { shots, seed } : { shots },
    });
  }
}
