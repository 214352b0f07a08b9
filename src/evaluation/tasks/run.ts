/**
 * Asks several models the items of several tasks: what `yoco eval` and `yoco eval-mmlu` share. Every answer is a row; an
 * interrupted run resumes at the first group of items that is not wholly known.
 */
import type { Task } from '../../data/tasks/task.js';
import { RunError, UsageError } from '../../errors.js';
import type { LanguageModel } from '../../model/language-model.js';
import type { Json } from '../../results/canonical.js';
import { keyText } from '../../results/cells.js';
import type { Row, Schema } from '../../results/schema.js';
import { ResultWriter } from '../../results/writer.js';
import { weightsCell, type Candidate } from '../candidates.js';
import { ENCODING_VERSION } from '../scoring/likelihood.js';
import { scoringBatch } from '../scoring/memory.js';
import { runCell } from '../../sweep/cell.js';
import { modelLabel, modelRow } from '../../sweep/model-key.js';
import { engineIdentity, type Session } from '../session.js';
import { TaskPrompts } from './prompts.js';
import { scoreTask, type ItemResult } from './score.js';
import { summaryCells, type ItemOutcome, type OutcomesByTask, type SummaryLine } from './summary.js';
import { greatest } from '../../sweep/statistics.js';

/** How the answers of a kind of tasks are written down. */
export interface TaskTables<T extends Task> {
  readonly items: Schema;
  readonly summary: Schema;
  /** The columns that tell an item from the model's others. */
  readonly itemKey: (task: T, index: number) => Row;
  readonly itemCells: (result: ItemResult) => Row;
  /** What the summary needs of a row of items, from this run or an earlier one. */
  readonly outcomeOf: (row: Row) => ItemOutcome;
  /** The lines of one model in the summary. */
  readonly lines: (tasks: readonly T[]) => SummaryLine<T>[];
}

export interface TasksRun<T extends Task> extends Session {
  readonly tasks: readonly T[];
  readonly tables: TaskTables<T>;
  /** What else determines the answers: number and seed of the examples. */
  readonly settings: Json;
  /** Tokens of a prompt at most; undefined: what each model was trained on, where that is known. */
  readonly maxContext?: number;
  /** Sequences computed in one pass at most; undefined: as many as fit. Answers do not depend on it. */
  readonly batch?: number;
  readonly directory: string;
  /** Keep the items that an earlier run has answered. */
  readonly resume: boolean;
  /** Called for every item that is answered or known. */
  readonly onItem: (candidate: Candidate, task: string) => void;
  /** A remark for the person who waits. */
  readonly note: (line: string) => void;
}

/**
 * @returns the summary and the table of items, to be closed
 * @throws UsageError when no item fits a model's longest prompt, RunError when no model fits the memory; both before any work
 */
export async function runTasks<T extends Task>(
  run: TasksRun<T>,
): Promise<[summary: ResultWriter, items: ResultWriter]> {
  for (const candidate of run.candidates) requireFit(run, candidate);
  const batches = run.candidates.map((candidate) => batchOf(run, candidate));
  const [first] = batches;
  if (first instanceof RunError && batches.every((batch) => batch instanceof RunError)) throw first;
  const items = openItems(run);
  // What is derived from the items is derived anew each time.
  const summary = ResultWriter.open(run.directory, run.tables.summary, {
    settings: Object.fromEntries(run.tasks.map(({ name, sha256, version }) => [name, { sha256, version }])),
    provenance: run.provenance,
    resume: false,
    keepOthers: run.resume,
  });
  let baseline: OutcomesByTask | undefined;
  for (const [index, candidate] of run.candidates.entries()) {
    const batch = batches[index] as number | RunError;
    if (batch instanceof RunError) run.note(`left out: ${batch.message}`);
    await new Answering(run, candidate, items, batch).all();
    const outcomes = outcomesOf(run, candidate, items);
    summarize(run, candidate, summary, outcomes, baseline);
    noteShots(run, candidate, outcomes.known);
    baseline ??= outcomes.known;
  }
  return [summary, items];
}

const limitOf = <T extends Task>(
  { maxContext }: TasksRun<T>,
  { trainedContext }: Candidate,
): number | undefined => maxContext ?? trainedContext ?? undefined;

const keyOf = <T extends Task>({ tables }: TasksRun<T>, { key }: Candidate, task: T, index: number): Row => ({
  ...modelRow(key),
  ...tables.itemKey(task, index),
});

/** A limit below every item would have all of them scored without their beginnings. */
function requireFit<T extends Task>(run: TasksRun<T>, candidate: Candidate): void {
  const limit = limitOf(run, candidate);
  if (limit === undefined) return;
  let shortest = Infinity;
  for (const task of run.tasks) {
    const prompts = new TaskPrompts({ ...task, examples: [] }, candidate.tokenizer, limit);
    for (const item of task.items) {
      shortest = Math.min(shortest, prompts.bareLength(item));
      if (shortest <= limit) return;
    }
  }
  const { name } = candidate.choice;
  throw new UsageError(
    run.maxContext === undefined
      ? `${name} was trained on ${limit} tokens, in which no question fits: the shortest has ${shortest}; --max-context allows more`
      : `--max-context ${limit}: no question fits, the shortest has ${shortest} tokens (${name})`,
  );
}

/** Sequences that a model is given in one pass, or why it cannot be asked at all. */
function batchOf<T extends Task>(run: TasksRun<T>, candidate: Candidate): number | RunError {
  const { tokenizer } = candidate;
  const lengths = run.tasks.map((task) => {
    const prompts = new TaskPrompts(task, tokenizer, limitOf(run, candidate) ?? Infinity);
    const size = ({ options }: (typeof task.items)[number]): number =>
      greatest(options.map(({ context, continuation }) => context.length + continuation.length));
    const longest = task.items.reduce((a, b) => (size(b) > size(a) ? b : a));
    return greatest(prompts.prompt(longest).requests.map(({ tokens }) => tokens.length));
  });
  try {
    return scoringBatch(run.engine, candidate.choice, greatest(lengths), run.batch);
  } catch (error) {
    if (error instanceof RunError) return error;
    throw error;
  }
}

function openItems<T extends Task>(run: TasksRun<T>): ResultWriter {
  const { tables, engine, provenance, resume } = run;
  const plan: Row[] = [];
  const settings = new Map<string, Json>();
  for (const candidate of run.candidates) {
    for (const task of run.tasks) {
      const shared: Json = {
        model: candidate.settings,
        engine: engineIdentity(engine),
        limit: limitOf(run, candidate) ?? null,
        encoding: ENCODING_VERSION,
        task: { sha256: task.sha256, version: task.version, settings: run.settings },
      };
      for (const { index } of task.items) {
        const key = keyOf(run, candidate, task, index);
        plan.push(key);
        settings.set(keyText(tables.items, key), shared);
      }
    }
  }
  return ResultWriter.open(run.directory, tables.items, {
    settings: (row) => settings.get(keyText(tables.items, row)) ?? null,
    ...{ provenance, resume, plan },
  });
}

/** One model answers what is not known. */
class Answering<T extends Task> {
  private model: LanguageModel | null = null;
  private cut = 0;

  constructor(
    private readonly run: TasksRun<T>,
    private readonly candidate: Candidate,
    private readonly table: ResultWriter,
    /** Sequences of a pass, or why nothing can be answered. */
    private readonly batch: number | RunError,
  ) {}

  async all(): Promise<void> {
    try {
      for (const task of this.run.tasks) {
        try {
          if (this.batch instanceof RunError) throw this.batch;
          await this.answer(task, this.batch);
        } catch (error) {
          this.fail(task, error);
        }
      }
    } finally {
      this.model?.dispose();
    }
    if (this.cut > 0) {
      this.run.note(
        `${this.candidate.choice.name}: ${this.cut} questions were longer than a prompt may be and lost their beginning`,
      );
    }
  }

  private async answer(task: T, batch: number): Promise<void> {
    const { run, candidate } = this;
    const missing = this.missing(task);
    for (let known = missing.size; known < task.items.length; known++) run.onItem(candidate, task.name);
    if (missing.size === 0) return;
    const model = (this.model ??= await runCell(run.engine, () => candidate.open()));
    await runCell(run.engine, () => this.score(model, task, missing, batch));
  }

  private async score(
    model: LanguageModel,
    task: T,
    missing: ReadonlySet<number>,
    batch: number,
  ): Promise<void> {
    const { run, candidate, table } = this;
    const limit = limitOf(run, candidate) ?? Infinity;
    const isKnown = (index: number): boolean => !missing.has(index);
    const options = { limit, isKnown, batch };
    for await (const result of scoreTask(model, candidate.tokenizer, task, options)) {
      const { index } = result.item;
      if (isKnown(index)) continue;
      if (result.isCut) this.cut += 1;
      table.append({ ...keyOf(run, candidate, task, index), ...run.tables.itemCells(result) });
      run.onItem(candidate, task.name);
    }
  }

  /** Marks all items that have no answer. */
  private fail(task: T, error: unknown): void {
    const missing = this.missing(task);
    if (missing.size === 0) throw error;
    for (const index of missing) {
      this.table.fail(keyOf(this.run, this.candidate, task, index), error);
      this.run.onItem(this.candidate, task.name);
    }
  }

  private missing(task: T): Set<number> {
    const indices = task.items.map(({ index }) => index);
    return new Set(
      indices.filter(
        (index) => this.table.get(keyOf(this.run, this.candidate, task, index))?.status !== 'ok',
      ),
    );
  }
}

interface ModelOutcomes {
  readonly known: OutcomesByTask;
  /** Why items of a task have no answer, by the task's name. */
  readonly failed: ReadonlyMap<string, string>;
}

function outcomesOf<T extends Task>(
  run: TasksRun<T>,
  candidate: Candidate,
  table: ResultWriter,
): ModelOutcomes {
  const known = new Map<string, ItemOutcome[]>();
  const failed = new Map<string, string>();
  for (const task of run.tasks) {
    const rows = task.items.map(({ index }) => table.get(keyOf(run, candidate, task, index)));
    const failure = rows.find((row) => row?.status !== 'ok');
    if (failure) failed.set(task.name, String(failure.error));
    else
      known.set(
        task.name,
        rows.map((row) => run.tables.outcomeOf(row ?? {})),
      );
  }
  return { known, failed };
}

function summarize<T extends Task>(
  run: TasksRun<T>,
  candidate: Candidate,
  summary: ResultWriter,
  { known, failed }: ModelOutcomes,
  baseline: OutcomesByTask | undefined,
): void {
  for (const line of run.tables.lines(run.tasks)) {
    const key = { ...modelRow(candidate.key), ...line.key };
    const reason = line.tasks.map(({ name }) => failed.get(name)).find((text) => text !== undefined);
    if (reason !== undefined) summary.fail(key, new RunError(reason));
    else summary.append({ ...key, ...weightsCell(candidate), ...summaryCells(line, known, baseline) });
  }
}

/** Few shots that did not fit are no few-shot figure: says how many did. */
function noteShots<T extends Task>(run: TasksRun<T>, { choice }: Candidate, known: OutcomesByTask): void {
  const asked = greatest(run.tasks.map(({ examples }) => examples.length));
  const shots = [...known.values()].flat().map((outcome) => outcome.shots);
  if (asked === 0 || shots.length === 0) return;
  const mean = shots.reduce((sum, count) => sum + count, 0) / shots.length;
  run.note(`${modelLabel(choice)}: ${mean.toFixed(2)} of ${asked} examples fitted a prompt on average`);
}
