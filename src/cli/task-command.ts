import type { Task } from '../data/tasks/task.js';
import type { TaskTables } from '../evaluation/tasks/run.js';
import type { Json } from '../results/canonical.js';
import { modelLabel, type ModelChoice } from '../sweep/model-key.js';
import type { FinishOptions } from './base-command.js';
import { EvaluationCommand, type EvaluationFlags } from './evaluation-command.js';

/** The parsed flags of a command that asks tasks. */
export interface TaskFlags extends EvaluationFlags, FinishOptions {
  readonly resume: boolean;
  readonly 'max-context'?: number;
  readonly batch: number | 'auto';
}

export interface TaskQuestions<T extends Task> {
  readonly choices: readonly ModelChoice[];
  readonly tasks: readonly T[];
  readonly tables: TaskTables<T>;
  /** SHA-256 of what was read, by name. */
  readonly inputs: Readonly<Record<string, string>>;
  /** How the examples were chosen. */
  readonly settings: Json;
  /** What the progress bar is called and what it counts. */
  readonly label: string;
  readonly unit: string;
}

/** Parent of the commands that ask models multiple-choice and cloze tasks. */
export abstract class TaskCommand extends EvaluationCommand {
  protected async ask<T extends Task>(flags: TaskFlags, questions: TaskQuestions<T>): Promise<void> {
    const { choices, tasks, tables, inputs, settings, label, unit } = questions;
    const { runTasks } = await import('../library/evaluation.js');
    const evaluation = await this.startEvaluation(flags, { choices, inputs });
    const items = tasks.reduce((sum, task) => sum + task.items.length, 0);
    const progress = this.progress({ label, total: items * choices.length, unit });
    const writers = await runTasks({
      ...evaluation,
      tasks,
      tables,
      settings,
      maxContext: flags['max-context'],
      batch: flags.batch === 'auto' ? undefined : flags.batch,
      onItem: ({ choice }, task) => {
        progress.note(`${modelLabel(choice)}, ${task}`);
        progress.increment();
      },
    }).finally(() => {
      progress.stop();
    });
    await this.finish(writers, flags);
  }
}
