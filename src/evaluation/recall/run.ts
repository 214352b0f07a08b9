/** Recall tasks over lengths and amounts, for several models. */
import { requireSequences, type RecallExample, type RecallTask } from '../../data/recall/index.js';
import { RunError, UsageError } from '../../errors.js';
import { costs } from '../../model/costs.js';
import { Random } from '../../random.js';
import { CellTable, cellOf, rowOf } from '../../results/typed.js';
import { ResultWriter } from '../../results/writer.js';
import { ELEMENT_BYTES } from '../../sweep/memory-budget.js';
import type { ModelChoice } from '../../sweep/model-key.js';
import { estimateMean } from '../../sweep/statistics.js';
import {
  planOf,
  sweepModels,
  type OpenModel,
  type SweepPart,
  type SweepProgress,
} from '../../sweep/sweep.js';
import { remarkContext, weightsCell, type Candidate } from '../candidates.js';
import { requireScoringMemory } from '../scoring/memory.js';
import { engineIdentity, type Session } from '../session.js';
import { answerQuestions } from './answer.js';
import { RECALL_SCHEMA, type RecallFigures, type RecallKey } from './tables.js';

export interface RecallRun extends Session {
  readonly tasks: readonly RecallTask[];
  readonly lengths: readonly number[];
  readonly items: readonly number[];
  /** Of each cell. */
  readonly sequences: number;
  readonly seed: number;
  /** Where the table is written. */
  readonly directory: string;
  /** Keep the cells that an earlier run has measured. */
  readonly resume: boolean;
  readonly onProgress?: (progress: SweepProgress<RecallKey>) => void;
  /** A remark for the person who waits. */
  readonly note: (line: string) => void;
}

/** Tokens read side by side, and sequences at most. */
const TOKENS_AT_ONCE = 1 << 15;
const MOST_AT_ONCE = 64;

interface Part extends SweepPart<RecallKey> {
  readonly candidate: Candidate;
}

/**
 * Cells for which a task has no sequences, such as more pairs than fit the length, are left out with a remark.
 * @throws UsageError where no cell is left. Cells that do not fit the memory are failed rows.
 */
export async function runRecall(run: RecallRun): Promise<ResultWriter> {
  const refusals = new Set<string>();
  const parts = run.candidates.map((candidate): Part => ({
    candidate,
    choice: candidate.choice,
    keys: keysOf(run, candidate, refusals),
    open: () => candidate.open(),
  }));
  for (const refusal of refusals) run.note(`left out: ${refusal}`);
  const longest = Math.max(...run.lengths);
  for (const candidate of run.candidates) remarkContext(run.note, candidate, longest);
  const settings = new Map(run.candidates.map(({ key, settings: own }) => [JSON.stringify(key), own]));
  const writer = ResultWriter.open(run.directory, RECALL_SCHEMA, {
    settings: (row) => {
      const { model, architecture, selfDecoder } = cellOf<RecallKey, RecallFigures>(RECALL_SCHEMA, row);
      return {
        model: settings.get(JSON.stringify({ model, architecture, selfDecoder })) ?? null,
        engine: engineIdentity(run.engine),
        sequences: run.sequences,
        seed: run.seed,
      };
    },
    provenance: run.provenance,
    resume: run.resume,
    plan: planOf(parts).map((key) => rowOf(RECALL_SCHEMA, key)),
  });
  const partOf = new Map<ModelChoice, Part>(parts.map((part) => [part.choice, part]));
  await sweepModels<RecallKey, RecallFigures>({
    parts,
    engine: run.engine,
    seed: run.seed,
    table: new CellTable(RECALL_SCHEMA, writer),
    onProgress: run.onProgress,
    unitsOf: ({ length }) => length * run.sequences,
    measure: (open, key, onUnits) => {
      const part = partOf.get(open.choice);
      if (part === undefined) throw new Error('a model outside the plan');
      return measure(run, part.candidate, open, key, onUnits);
    },
  });
  return writer;
}

/** @throws UsageError where a model has no cell at all */
function keysOf(
  { tasks, lengths, items }: RecallRun,
  candidate: Candidate,
  refusals: Set<string>,
): RecallKey[] {
  const vocabSize = vocabularyOf(candidate);
  const keys = tasks.flatMap((task) =>
    lengths.flatMap((length) =>
      items.flatMap((count): RecallKey[] => {
        try {
          requireSequences(task, { length, items: count, vocabSize });
        } catch (error) {
          if (!(error instanceof UsageError)) throw error;
          refusals.add(error.message);
          return [];
        }
        const { name, version } = task;
        return [{ ...candidate.key, task: name, version, length, items: count }];
      }),
    ),
  );
  if (keys.length === 0) throw new UsageError([...refusals][0] ?? 'there is nothing to measure');
  return keys;
}

/** @throws UsageError for a model whose tokens are text */
function vocabularyOf({ choice, tokenizer }: Candidate): number {
  if (tokenizer.name.startsWith('symbols-')) return tokenizer.vocabSize;
  throw new UsageError(
    `'${choice.name}' has tokens of ${tokenizer.name}, but recall tasks are of numbered symbols: train one with ` +
      'yoco train --task, or give --tokenizer symbols-N for a model of random weights',
  );
}

async function measure(
  run: RecallRun,
  candidate: Candidate,
  { model, choice }: OpenModel,
  key: RecallKey,
  onUnits: (done: number) => void,
): Promise<RecallFigures> {
  const { engine, sequences } = run;
  const { length } = key;
  requireScoringMemory(engine, choice, length);
  const shares: number[] = [];
  let [questions, correct, seconds] = [0, 0, 0];
  const atOnce = Math.max(1, Math.min(MOST_AT_ONCE, Math.floor(TOKENS_AT_ONCE / length)));
  for (let from = 0; from < sequences; from += atOnce) {
    const count = Math.min(atOnce, sequences - from);
    const examples = Array.from({ length: count }, (_, index) =>
      exampleOf(run, candidate, key, from + index),
    );
    const began = performance.now();
    const verdicts = await answerQuestions(model, examples);
    seconds += (performance.now() - began) / 1000;
    for (const own of verdicts) {
      const right = own.filter(Boolean).length;
      shares.push(right / own.length);
      questions += own.length;
      correct += right;
    }
    onUnits((from + count) * length);
  }
  if (questions === 0) throw new RunError('there are no questions');
  const bytes = ELEMENT_BYTES[engine.storage];
  const formulas = costs(choice.config);
  return {
    ...weightsCell(candidate),
    parameters: formulas.parameters(),
    stateBytes: formulas.stateBytes(bytes),
    keyValueBytes: formulas.keyValueBytesPerToken(bytes) * length,
    ...{ sequences, questions, correct },
    accuracy: correct / questions,
    accuracyError: estimateMean(shares).standardError,
    tokensPerSecond: (sequences * length) / seconds,
  };
}

/** Training draws from streams of other names: no sequence is in both. */
function exampleOf(
  { tasks, seed }: RecallRun,
  candidate: Candidate,
  { task: name, length, items }: RecallKey,
  index: number,
): RecallExample {
  const task = tasks.find((known) => known.name === name);
  if (task === undefined) throw new Error('a task outside the plan');
  const random = new Random(`${seed}/recall/${name}/evaluation/${length}/${items}/${index}`);
  return task.make({ length, items, vocabSize: candidate.tokenizer.vocabSize }, random);
}
