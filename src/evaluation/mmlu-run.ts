/** Asks several models the same questions and writes both tables. */
import type { QuestionSet } from '../data/mmlu.js';
import type { Json } from '../results/canonical.js';
import type { Provenance } from '../results/provenance.js';
import type { Row } from '../results/schema.js';
import { ResultWriter } from '../results/writer.js';
import { weightsCell, type Candidate } from './candidates.js';
import { scoreSubject, summarizeMmlu, type SubjectOutcomes } from './mmlu.js';
import {
  meanShots,
  MMLU_QUESTIONS,
  MMLU_SUMMARY,
  outcomesOf,
  questionKey,
  questionRow,
  rowsBySubject,
} from './mmlu-tables.js';

export interface MmluRun {
  readonly set: QuestionSet;
  readonly candidates: readonly Candidate[];
  readonly shots: number;
  /** Tokens of a prompt at most; undefined: what each model was trained on, where that is known. */
  readonly maxContext?: number;
  readonly directory: string;
  readonly resume: boolean;
  readonly provenance: Provenance;
  readonly onQuestion: (candidate: Candidate, subject: string) => void;
}

/** @returns the summary and the table of questions, to be closed */
export async function runMmlu(run: MmluRun): Promise<[summary: ResultWriter, questions: ResultWriter]> {
  const { set, candidates } = run;
  const keysOf = ({ key }: Candidate): Row[] =>
    set.subjects.flatMap((subject) =>
      subject.questions.map(({ index }) => questionKey(key, set, subject, index)),
    );
  const questions = ResultWriter.open(run.directory, MMLU_QUESTIONS, {
    settings: settingsByModel(run),
    provenance: run.provenance,
    resume: run.resume,
    plan: candidates.flatMap(keysOf),
  });
  // What is derived from the questions is derived anew each time.
  const summary = ResultWriter.open(run.directory, MMLU_SUMMARY, {
    settings: { set: set.sha256 },
    provenance: run.provenance,
    resume: false,
  });
  let baseline: SubjectOutcomes | undefined;
  for (const candidate of candidates) {
    await askCandidate(run, candidate, questions);
    const groups = rowsBySubject(
      keysOf(candidate)
        .map((key) => questions.get(key))
        .filter((row) => row !== undefined),
    );
    const outcomes = outcomesOf(groups);
    for (const row of summarizeMmlu(set, outcomes, baseline)) {
      const shots = meanShots(set, groups, row);
      summary.append({ ...candidate.key, data: set.name, ...weightsCell(candidate), shots, ...row });
    }
    baseline ??= outcomes;
  }
  return [summary, questions];
}

/** Everything that determines the result of a question, by the model that is asked. */
function settingsByModel(run: MmluRun): (row: Row) => Json {
  const settings = new Map(
    run.candidates.map((candidate) => [
      JSON.stringify(candidate.key),
      {
        model: candidate.settings,
        set: run.set.sha256,
        shots: run.shots,
        limit: limitOf(run, candidate) ?? null,
      },
    ]),
  );
  const names = Object.keys(run.candidates[0]?.key ?? {});
  return (row) =>
    settings.get(JSON.stringify(Object.fromEntries(names.map((name) => [name, row[name] ?? null])))) ?? null;
}

const limitOf = (run: MmluRun, { trainedContext }: Candidate): number | undefined =>
  run.maxContext ?? trainedContext ?? undefined;

async function askCandidate(run: MmluRun, candidate: Candidate, questions: ResultWriter): Promise<void> {
  const { set, onQuestion } = run;
  const keyOf = (subject: QuestionSet['subjects'][number], index: number): Row =>
    questionKey(candidate.key, set, subject, index);
  const isKnown = set.subjects.every((subject) =>
    subject.questions.every(({ index }) => questions.has(keyOf(subject, index))),
  );
  const model = isKnown ? null : await candidate.open();
  for (const subject of set.subjects) {
    const known = subject.questions.filter(({ index }) => questions.has(keyOf(subject, index)));
    for (let count = 0; count < known.length; count++) onQuestion(candidate, subject.name);
    if (model === null || known.length === subject.questions.length) continue;
    const skip = new Set(known);
    const results = scoreSubject(model, candidate.tokenizer, subject, {
      limit: limitOf(run, candidate) ?? Infinity,
      skip: (question) => skip.has(question),
    });
    for await (const result of results) {
      if (skip.has(result.question)) continue;
      questions.append(questionRow(keyOf(subject, result.question.index), result));
      onQuestion(candidate, subject.name);
    }
  }
  model?.dispose();
}
