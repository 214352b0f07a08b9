/** Asks several models the same questions and writes both tables. */
import type { QuestionSet, Subject } from '../../data/tasks/mmlu.js';
import { ResultWriter } from '../../results/writer.js';
import { weightsCell } from '../candidates.js';
import { answers, openItems, type ItemSweep, type RowsByUnit, type SweepTarget } from './item-sweep.js';
import { scoreSubject, summarizeMmlu, type SubjectOutcomes } from './mmlu.js';
import { meanShots, MMLU_QUESTIONS, MMLU_SUMMARY, questionCells } from './mmlu-tables.js';

export interface MmluRun extends SweepTarget {
  readonly set: QuestionSet;
  readonly shots: number;
}

/** @returns the summary and the table of questions, to be closed */
export async function runMmlu(run: MmluRun): Promise<[summary: ResultWriter, questions: ResultWriter]> {
  const { set, shots, directory, provenance } = run;
  const sweep: ItemSweep<Subject> = {
    ...run,
    schema: MMLU_QUESTIONS,
    units: set.subjects,
    settings: ({ sha256 }) => ({ sha256, shots }),
    itemsOf: ({ questions }) => questions,
    keyOf: (model, subject, question) => ({ ...model, data: set.name, subject: subject.name, question }),
    score: async function* (model, { tokenizer }, subject, scoring) {
      for await (const result of scoreSubject(model, tokenizer, subject, scoring)) {
        yield { index: result.question.index, cells: questionCells(result) };
      }
    },
  };
  const questions = openItems(sweep);
  // What is derived from the questions is derived anew each time.
  const summary = ResultWriter.open(directory, MMLU_SUMMARY, {
    settings: { set: set.sha256, shots },
    provenance,
    resume: false,
    keepOthers: run.resume,
  });
  let baseline: SubjectOutcomes | undefined;
  for await (const { candidate, rows } of answers(sweep, questions)) {
    const outcomes = outcomesOf(rows);
    for (const row of summarizeMmlu(set, outcomes, baseline)) {
      const model = { ...candidate.key, data: set.name, ...weightsCell(candidate) };
      summary.append({ ...model, shots: meanShots(set, rows, row), ...row });
    }
    baseline ??= outcomes;
  }
  return [summary, questions];
}

const outcomesOf = (rows: RowsByUnit): SubjectOutcomes =>
  new Map([...rows].map(([subject, group]) => [subject, group.map(({ correct }) => Number(correct))]));
