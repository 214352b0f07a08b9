/** Runs several models over several tasks and writes both tables. */
import type { ChoiceTask } from '../../data/tasks/choice-tasks.js';
import { ResultWriter } from '../../results/writer.js';
import type { Outcomes } from './accuracy.js';
import { weightsCell } from '../candidates.js';
import { answers, openItems, type ItemSweep, type SweepTarget } from './item-sweep.js';
import { scoreTask } from './tasks.js';
import {
  itemCells,
  outcomesOf,
  summarizeAverage,
  summarizeTask,
  TASK_ITEMS,
  TASK_SUMMARY,
} from './tasks-tables.js';

export interface TasksRun extends SweepTarget {
  readonly tasks: readonly ChoiceTask[];
}

/** @returns the summary and the table of items, to be closed */
export async function runTasks(run: TasksRun): Promise<[summary: ResultWriter, items: ResultWriter]> {
  const { tasks, directory, provenance } = run;
  const sweep: ItemSweep<ChoiceTask> = {
    ...run,
    schema: TASK_ITEMS,
    units: tasks,
    settings: ({ sha256 }) => sha256,
    itemsOf: ({ items }) => items,
    keyOf: (model, task, item) => ({ ...model, task: task.name, item }),
    score: async function* (model, { tokenizer }, task, scoring) {
      for await (const result of scoreTask(model, tokenizer, task, scoring)) {
        yield { index: result.item.index, cells: itemCells(result) };
      }
    },
  };
  const items = openItems(sweep);
  // What is derived from the items is derived anew each time.
  const summary = ResultWriter.open(directory, TASK_SUMMARY, {
    settings: Object.fromEntries(tasks.map(({ name, sha256 }) => [name, sha256])),
    provenance,
    resume: false,
    keepOthers: run.resume,
  });
  let baseline: Outcomes[] | undefined;
  for await (const { candidate, rows } of answers(sweep, items)) {
    const model = { ...candidate.key, ...weightsCell(candidate) };
    const outcomes = tasks.map(({ name }) => outcomesOf(rows.get(name) ?? []));
    for (const [index, task] of tasks.entries()) {
      summary.append({ ...model, ...summarizeTask(task, rows.get(task.name) ?? [], baseline?.[index]) });
    }
    if (tasks.length > 1) summary.append({ ...model, ...summarizeAverage(outcomes, baseline) });
    baseline ??= outcomes;
  }
  return [summary, items];
}
