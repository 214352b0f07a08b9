/** Multiple-choice questions in the layout of MMLU: `{dev,val,test}/<subject>_<split>.csv`, no header line. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { CsvError, parse } from 'csv-parse/sync';
import { RunError, UsageError } from '../../errors.js';
import { packageRoot } from '../../package-root.js';
import { readText } from '../files.js';
import { MMLU_CATEGORIES, MMLU_SUBJECTS, type MmluCategory } from './mmlu-subjects.js';

export const LETTERS = ['A', 'B', 'C', 'D'] as const;
/** Question, four choices, letter. */
const COLUMNS = 2 + LETTERS.length;

export const MMLU_SPLITS = ['test', 'val'] as const;
export type MmluSplit = (typeof MMLU_SPLITS)[number];

export interface Question {
  /** Row of the file, from 0. */
  readonly index: number;
  readonly question: string;
  readonly choices: readonly string[];
  /** Index of the right choice. */
  readonly answer: number;
}

export interface Subject {
  readonly name: string;
  readonly category: MmluCategory;
  /** Of the files read. */
  readonly sha256: string;
  /** The examples a prompt may begin with. */
  readonly examples: readonly Question[];
  readonly questions: readonly Question[];
}

export interface QuestionSet {
  /** `mmlu` when these are the 57 subjects, `yoco-sample` for our own questions, else the directory's name. */
  readonly name: string;
  readonly sha256: string;
  readonly subjects: readonly Subject[];
}

export interface MmluOptions {
  /** Subjects wanted; default all. */
  readonly subjects?: readonly string[];
  readonly split?: MmluSplit;
  /** Questions of each subject, from the first; default all. */
  readonly limit?: number;
  /** Examples a prompt begins with; the files of the dev split are needed when it is not 0. */
  readonly shots: number;
}

/** The small question set that comes with this package: written for it, in the layout of MMLU. */
export const SAMPLE_NAME = 'yoco-sample';
export const sampleDirectory = (): string => join(packageRoot, 'data', SAMPLE_NAME);

/**
 * @param directory where `test/`, `dev/` and `val/` are, or its parent if they are in `data/` as in the original archive
 * @throws UsageError for unknown subjects and missing files, RunError for malformed ones (file and line named)
 */
export function loadMmlu(directory: string, options: MmluOptions): QuestionSet {
  const { split = 'test', shots } = options;
  const root = findRoot(directory, split);
  const categories = readCategories(root);
  const subjects = chooseSubjects(root, split, options.subjects).map((name): Subject => {
    const hash = createHash('sha256');
    const read = (part: string): Question[] =>
      readQuestions(join(root, part, `${name}_${part}.csv`), (bytes) => hash.update(bytes));
    const examples = shots > 0 ? read('dev') : [];
    if (examples.length < shots) {
      throw new UsageError(`${name} has ${examples.length} examples: --shots ${shots} is too many`);
    }
    const questions = read(split).slice(0, options.limit);
    const category = categories.get(name) ?? 'other';
    return { name, category, sha256: hash.digest('hex'), examples: examples.slice(0, shots), questions };
  });
  const isMmlu = subjects.every(({ name }) => MMLU_SUBJECTS.has(name));
  const hashes = subjects.map(({ sha256 }) => sha256).join('');
  const sha256 = createHash('sha256').update(hashes).digest('hex');
  return { name: isMmlu ? 'mmlu' : basename(root), sha256, subjects };
}

function findRoot(directory: string, split: string): string {
  const root = [directory, join(directory, 'data')].find((path) => existsSync(join(path, split)));
  if (root !== undefined) return root;
  if (!existsSync(directory)) throw new UsageError(`no such directory: ${directory}`);
  throw new UsageError(
    `${directory} has no folder '${split}' with <subject>_${split}.csv files (the layout of MMLU)`,
  );
}

function chooseSubjects(root: string, split: string, wanted: readonly string[] | undefined): string[] {
  const suffix = `_${split}.csv`;
  const present = readdirSync(join(root, split))
    .filter((file) => file.endsWith(suffix))
    .map((file) => file.slice(0, -suffix.length))
    .sort();
  if (present.length === 0) throw new UsageError(`${join(root, split)} holds no file <subject>${suffix}`);
  const unknown = wanted?.find((name) => !present.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`no subject '${unknown}' in ${root}: the subjects are ${present.join(', ')}`);
  }
  return wanted ? [...new Set(wanted)] : present;
}

/** Categories of the 57 subjects, and those a `subjects.json` (subject → category) adds for others. */
function readCategories(root: string): Map<string, MmluCategory> {
  const categories = new Map(MMLU_SUBJECTS);
  const file = join(root, 'subjects.json');
  if (!existsSync(file)) return categories;
  let entries: [string, unknown][];
  try {
    entries = Object.entries(JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>);
  } catch (error) {
    throw new RunError(`${file}: not valid JSON`, { cause: error });
  }
  for (const [subject, value] of entries) {
    const category = MMLU_CATEGORIES.find((name) => name === value);
    if (category === undefined) {
      throw new RunError(`${file}: category of ${subject} must be one of ${MMLU_CATEGORIES.join(', ')}`);
    }
    categories.set(subject, category);
  }
  return categories;
}

interface CsvRecord {
  readonly record: readonly string[];
  /** Line on which the record ends. */
  readonly info: { readonly lines: number };
}

function readQuestions(file: string, onBytes: (bytes: Uint8Array) => void): Question[] {
  const text = [...readText(file, onBytes)].join('');
  return parseCsv(file, text).map(({ record, info }, index) => {
    if (record.length !== COLUMNS) {
      throw new RunError(
        `${file}:${info.lines}: expected ${COLUMNS} columns (question, A, B, C, D, answer), found ${record.length}`,
      );
    }
    const [question = '', ...rest] = record;
    const letter = rest.pop()?.trim() ?? '';
    const answer = LETTERS.findIndex((name) => name === letter);
    if (answer < 0)
      throw new RunError(`${file}:${info.lines}: the answer must be A, B, C or D, found '${letter}'`);
    return { index, question, choices: rest, answer };
  });
}

function parseCsv(file: string, text: string): CsvRecord[] {
  try {
    return parse(text, {
      info: true,
      relax_column_count: true,
      skip_empty_lines: true,
    }) as unknown as CsvRecord[];
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const line = (error as CsvError & { lines?: number }).lines;
    throw new RunError(`${file}:${line ?? '?'}: malformed CSV (${error.message})`, { cause: error });
  }
}

/** `high_school_physics` → `high school physics`. */
export const subjectTitle = (name: string): string => name.replaceAll('_', ' ');

/** What every prompt of a subject begins with: the instruction and the examples, answers included. */
export function fewShotPrefix(subject: Subject, shots: number): string {
  const title = subjectTitle(subject.name);
  const opening = `The following are multiple choice questions (with answers) about ${title}.\n\n`;
  const examples = subject.examples
    .slice(0, shots)
    .map((example) => `${questionText(example)} ${LETTERS[example.answer]}\n\n`);
  return opening + examples.join('');
}

/** A question and its lettered choices, up to `Answer:`. */
export function questionText({ question, choices }: Question): string {
  const lines = choices.map((choice, index) => `${LETTERS[index]}. ${choice}`);
  return [question, ...lines, 'Answer:'].join('\n');
}
