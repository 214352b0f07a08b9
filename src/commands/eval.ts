import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base-command.js';
import { sweepFlags } from '../cli/flags.js';
import { evaluationFlags, listFlag, maxContextFlag } from '../cli/evaluation-flags.js';
import { modelSelection } from '../cli/model-selection.js';
import { modelLabel } from '../library/basics.js';
import type { Schema } from '../library/basics.js';

/** The tasks of `data/choice-tasks.ts`, repeated here so that `--help` loads nothing. */
const TASKS = ['arc-easy', 'arc-challenge', 'piqa', 'boolq', 'openbookqa', 'winogrande', 'lambada'];

export default class Eval extends BaseCommand {
  static override summary = "The tasks of the paper's harness table: accuracy by likelihood.";
  static override description =
    `Tasks: ${TASKS.join(', ')}. The likeliest continuation is the answer; accuracy_normalized divides by its characters. ` +
    'Winogrande scores what follows either name; LAMBADA asks for exactly the last word, and gives its perplexity. Leaves in ' +
    '--out: eval.csv (tasks and their average, with standard errors; several models are compared with the first on the same ' +
    'items) and eval-items.csv (every item).';
  static override examples = [
    '<%= config.bin %> <%= command.id %> --data data/tasks --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> --data data/tasks --tasks arc-easy,piqa --limit 200 --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> --data data/tasks --checkpoint runs/yoco --checkpoint runs/transformer --format md',
  ];
  static override flags = {
    ...evaluationFlags,
    ...sweepFlags,
    data: Flags.string({
      description: 'directory with arc_easy.jsonl, piqa.jsonl, … (one {query, choices, gold} a line)',
      helpValue: 'DIR',
      required: true,
      helpGroup: 'DATA',
    }),
    tasks: listFlag({
      description: 'tasks, separated by commas (default: all)',
      helpValue: 'arc-easy,piqa',
      helpGroup: 'DATA',
    }),
    limit: Flags.integer({ description: 'items of each task, from the first', min: 1, helpGroup: 'DATA' }),
    'max-context': maxContextFlag,
  };

  protected override mainTable = async (): Promise<Schema> =>
    (await import('../library/evaluation.js')).TASK_SUMMARY;

  async run(): Promise<void> {
    const { flags } = await this.parse(Eval);
    const { loadChoiceTask, startSession, runTasks } = await import('../library/evaluation.js');
    const { chooseModels } = await import('../library/models.js');
    const names = [...new Set(flags.tasks ?? TASKS)];
    const tasks = names.map((name) => loadChoiceTask(name, flags.data, flags.limit));
    const choices = chooseModels(modelSelection(flags));
    const context = await this.context(flags);
    const session = await startSession(context, flags, {
      choices,
      inputs: Object.fromEntries(tasks.map(({ name, sha256 }) => [name, sha256])),
    });
    const items = tasks.reduce((sum, task) => sum + task.items.length, 0);
    const progress = context.progress({ label: 'eval', total: items * choices.length, unit: 'items' });
    const tables = await runTasks({
      ...session,
      ...{ tasks, maxContext: flags['max-context'], resume: flags.resume },
      directory: context.directory,
      onItem: ({ choice }, task) => {
        progress.note(`${modelLabel(choice)}, ${task}`);
        progress.increment();
      },
    }).finally(() => {
      progress.stop();
    });
    await this.finish(tables, flags);
  }
}
