/** Multiple-choice questions in the layout of MMLU: `{dev,val,test}/<subject>_<split>.csv`, no header line. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { CsvError, parse } from 'csv-parse/sync';
import { RunError, UsageError } from '../../errors.js';
import { packageRoot } from '../../package-root.js';
import { readText } from '../files.js';
import { MMLU_CATEGORIES, MMLU_SUBJECTS, type MmluCategory } from './mmlu-subjects.js';
import { solvedExample, type Task, type TaskItem } from './task.js';

export const LETTERS = ['A', 'B', 'C', 'D'] as const;
const COLUMNS = ['question', ...LETTERS, 'answer'] as const;

export type MmluSplit = 'test' | 'val';

/** Raised when the prompts change. 1 had one space after "about". */
const VERSION = 2;

/** The task of one subject: four choices, of which the letter is asked. */
export interface Subject extends Task {
  readonly category: MmluCategory;
}

export interface QuestionSet {
  /** `mmlu` when these are the 57 subjects, `yoco-sample` for our own questions, else the directory's name. */
  readonly name: string;
  readonly sha256: string;
  readonly subjects: readonly Subject[];
}

export interface MmluOptions {
  /** Subjects to ask; default all. */
  readonly subjects?: readonly string[];
  readonly split?: MmluSplit;
  /** Questions of each subject, from the first; default all. */
  readonly limit?: number;
  /** Examples a prompt begins with; the files of the dev split are needed when it is not 0. */
  readonly shots: number;
}

/** The small question set that comes with this package: written for it, in the layout of MMLU. */
const SAMPLE_NAME = 'yoco-sample';
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
    const read = (part: string): TaskItem[] =>
      readQuestions(join(root, part, `${name}_${part}.csv`), (bytes) => hash.update(bytes));
    const examples = shots > 0 ? read('dev') : [];
    if (examples.length < shots) {
      throw new UsageError(`${name} has ${examples.length} examples: --shots ${shots} is too many`);
    }
    const items = read(split).slice(0, options.limit);
    return {
      ...{ name, category: categories.get(name) ?? 'other', version: VERSION, items },
      ...{ kind: 'choice', metrics: ['accuracy'], chance: 1 / LETTERS.length },
      opening: instruction(name),
      examples: examples.slice(0, shots).map(solvedExample),
      sha256: hash.digest('hex'),
    };
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

function chooseSubjects(root: string, split: string, named: readonly string[] | undefined): string[] {
  const suffix = `_${split}.csv`;
  const present = readdirSync(join(root, split))
    .filter((file) => file.endsWith(suffix))
    .map((file) => file.slice(0, -suffix.length))
    .sort();
  if (present.length === 0) throw new UsageError(`${join(root, split)} holds no file <subject>${suffix}`);
  const unknown = named?.find((name) => !present.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`no subject '${unknown}' in ${root}: the subjects are ${present.join(', ')}`);
  }
  return named ? [...new Set(named)] : present;
}

/** Categories of the 57 subjects, and those a `subjects.json` (subject → category) adds for others. */
function readCategories(root: string): Map<string, MmluCategory> {
  const categories = new Map(MMLU_SUBJECTS);
  const file = join(root, 'subjects.json');
  if (!existsSync(file)) return categories;
  let entries: [string, unknown][];
  try {
    entries = Object.entries(JSON.parse([...readText(file)].join('')) as Record<string, unknown>);
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

function readQuestions(file: string, onBytes: (bytes: Uint8Array) => void): TaskItem[] {
  const text = [...readText(file, onBytes)].join('');
  return parseCsv(file, text).map(({ record, info }, index) => {
    const place = `${file}:${info.lines}`;
    if (record.length !== COLUMNS.length) {
      throw new RunError(
        `${place}: expected ${COLUMNS.length} columns (${COLUMNS.join(', ')}), found ${record.length}`,
      );
    }
    const empty = record.findIndex((field) => field.trim() === '');
    if (empty >= 0) throw new RunError(`${place}: the column '${COLUMNS[empty] ?? ''}' is empty`);
    const [question = '', ...rest] = record;
    const letter = rest.pop()?.trim() ?? '';
    const gold = LETTERS.findIndex((name) => name === letter);
    if (gold < 0) throw new RunError(`${place}: the answer must be A, B, C or D, found '${letter}'`);
    const context = questionText(question, rest);
    return { index, options: LETTERS.map((name) => ({ context, continuation: ` ${name}` })), gold };
  });
}

function parseCsv(file: string, text: string): CsvRecord[] {
  try {
    return parse(text, {
      info: true,
      // All of them: files that several systems have edited mix them.
      record_delimiter: ['\r\n', '\n', '\r'],
      relax_column_count: true,
      skip_empty_lines: true,
    }) as unknown as CsvRecord[];
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const line = (error as CsvError & { lines?: number }).lines;
    throw new RunError(`${file}:${line ?? '?'}: malformed CSV (${error.message})`, { cause: error });
  }
}

/**
 * The line every prompt of a subject begins with. Each word of its name follows a space, the first one the second space:
 * "about  abstract algebra" (`format_subject` and `gen_prompt` in evaluate.py of github.com/hendrycks/test).
 */
function instruction(subject: string): string {
  const title = subject
    .split('_')
    .map((word) => ` ${word}`)
    .join('');
  return `The following are multiple choice questions (with answers) about ${title}.\n\n`;
}

/** A question and its lettered choices, up to `Answer:` (`format_example` there). */
function questionText(question: string, choices: readonly string[]): string {
  const lines = choices.map((choice, index) => `${LETTERS[index]}. ${choice}`);
  return [question, ...lines, 'Answer:'].join('\n');
}
