/**
 * Where the questions of the tasks are published, and how a published row becomes one of ours. The prompts are those of
 * lm-evaluation-harness, as far as they are not made when a task is read (choice-tasks.ts).
 */
import type { DataRow } from '../parquet.js';

/** A part of a published set and the file it becomes. */
export interface PublishedSplit {
  /** The split in the repository. */
  readonly split: string;
  /** What the name of our file ends in: nothing for the questions, `_train` for the examples. */
  readonly suffix: '' | '_train';
  /** Rows that the field knows it to have. */
  readonly rows?: number;
}

export interface PublishedSet {
  readonly repository: string;
  readonly configuration?: string;
  /** Our file, without its suffix and `.jsonl`. */
  readonly file: string;
  readonly splits: readonly PublishedSplit[];
  /** @throws Error that says what is wrong with a row */
  readonly convert: (row: DataRow) => object;
}

const splits = (split: string, rows: number): readonly PublishedSplit[] => [
  { split, suffix: '', rows },
  { split: 'train', suffix: '_train' },
];

/** By the names of `yoco eval`. */
export const PUBLISHED_SETS: Readonly<Record<string, PublishedSet>> = {
  'arc-easy': {
    ...{ repository: 'allenai/ai2_arc', configuration: 'ARC-Easy', file: 'arc_easy' },
    ...{
      splits: splits('test', 2376),
      convert: (row) => lettered(row, `Question: ${text(row, 'question')}`),
    },
  },
  'arc-challenge': {
    ...{ repository: 'allenai/ai2_arc', configuration: 'ARC-Challenge', file: 'arc_challenge' },
    ...{
      splits: splits('test', 1172),
      convert: (row) => lettered(row, `Question: ${text(row, 'question')}`),
    },
  },
  piqa: {
    ...{ repository: 'ybisk/piqa', file: 'piqa', splits: splits('validation', 1838) },
    convert: (row) => ({
      query: `Question: ${text(row, 'goal')}`,
      choices: [text(row, 'sol1'), text(row, 'sol2')],
      gold: index(row, 'label', 2),
    }),
  },
  boolq: {
    ...{ repository: 'google/boolq', file: 'boolq', splits: splits('validation', 3270) },
    convert: (row) => ({
      query: `Passage: ${text(row, 'passage')}\nQuestion: ${text(row, 'question').replace(/\?*$/, '?')}`,
      choices: ['no', 'yes'],
      gold: Number(truth(row, 'answer')),
    }),
  },
  openbookqa: {
    ...{ repository: 'allenai/openbookqa', configuration: 'main', file: 'openbook_qa' },
    ...{ splits: splits('test', 500), convert: (row) => lettered(row, text(row, 'question_stem')) },
  },
  winogrande: {
    ...{ repository: 'allenai/winogrande', configuration: 'winogrande_xl', file: 'winogrande' },
    ...{ splits: splits('validation', 1267), convert: winograndeItem },
  },
  lambada: {
    ...{ repository: 'EleutherAI/lambada_openai', configuration: 'default', file: 'lambada_openai' },
    ...{ splits: [{ split: 'test', suffix: '', rows: 5153 }], convert: lambadaItem },
  },
  hellaswag: {
    ...{ repository: 'Rowan/hellaswag', file: 'hellaswag', splits: splits('validation', 10_042) },
    convert: (row) => ({
      query: cleaned(
        `${text(row, 'activity_label')}: ${text(row, 'ctx_a')} ${capitalized(text(row, 'ctx_b', true))}`,
      ),
      choices: texts(row, 'endings').map(cleaned),
      gold: index(row, 'label', 4),
    }),
  },
  sciq: {
    ...{ repository: 'allenai/sciq', file: 'sciq', splits: splits('test', 1000) },
    convert: (row) => ({
      question: text(row, 'question'),
      distractor1: text(row, 'distractor1'),
      distractor2: text(row, 'distractor2'),
      distractor3: text(row, 'distractor3'),
      correct_answer: text(row, 'correct_answer'),
      support: text(row, 'support', true),
    }),
  },
};

export const MMLU_SET = { repository: 'cais/mmlu', configuration: 'all' } as const;
/** The published splits of MMLU, the folders they become, and their rows. */
export const MMLU_PARTS = [
  { split: 'dev', folder: 'dev', rows: 285 },
  { split: 'validation', folder: 'val', rows: 1531 },
  { split: 'test', folder: 'test', rows: 14_042 },
] as const;

export interface MmluQuestion {
  readonly subject: string;
  /** Question, four choices, letter. */
  readonly cells: readonly string[];
}

/** @throws Error that says what is wrong with a row */
export function mmluQuestion(row: DataRow): MmluQuestion {
  const choices = texts(row, 'choices');
  if (choices.length !== 4) throw new Error(`expected four choices, found ${choices.length}`);
  const subject = text(row, 'subject');
  if (!/^[a-z_]+$/.test(subject)) throw new Error(`'${subject}' is no name of a subject`);
  return { subject, cells: [text(row, 'question'), ...choices, 'ABCD'.charAt(index(row, 'answer', 4))] };
}

function text(row: DataRow, name: string, mayBeEmpty = false): string {
  const value = row[name];
  if (typeof value === 'string' && (mayBeEmpty || value.trim() !== '')) return value;
  throw new Error(`expected a text in the column '${name}', found ${describe(value)}`);
}

function texts(row: DataRow, name: string): string[] {
  const value = row[name];
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
  throw new Error(`expected texts in the column '${name}', found ${describe(value)}`);
}

function truth(row: DataRow, name: string): boolean {
  const value = row[name];
  if (typeof value === 'boolean') return value;
  throw new Error(`expected true or false in the column '${name}', found ${describe(value)}`);
}

/** A label as a number from 0, which some sets write as a text and Parquet reads as a large integer. */
function index(row: DataRow, name: string, count: number): number {
  const value = row[name];
  const isNumber =
    typeof value === 'number' || typeof value === 'bigint' || (typeof value === 'string' && value !== '');
  const number = isNumber ? Number(value) : NaN;
  if (Number.isInteger(number) && number >= 0 && number < count) return number;
  throw new Error(
    `expected a number from 0 to ${count - 1} in the column '${name}', found ${describe(value)}`,
  );
}

const describe = (value: unknown): string =>
  value === undefined
    ? 'no such column'
    : typeof value === 'bigint'
      ? String(value)
      : JSON.stringify(value).slice(0, 60);

/** ARC and OpenBookQA: choices with letters or numbers, one of which is the answer. */
function lettered(row: DataRow, query: string): object {
  const { choices } = row;
  if (typeof choices !== 'object' || choices === null) {
    throw new Error(`expected texts and labels in the column 'choices', found ${describe(choices)}`);
  }
  const answer = text(row, 'answerKey').trim();
  const labels = texts(choices as DataRow, 'label');
  const gold = labels.indexOf(answer);
  if (gold < 0) throw new Error(`the answer '${answer}' is none of ${labels.join(', ')}`);
  return { query, choices: texts(choices as DataRow, 'text'), gold };
}

/** The gap of the sentence is filled with either name; what follows is scored. */
function winograndeItem(row: DataRow): object {
  const sentence = text(row, 'sentence');
  const gap = sentence.indexOf('_');
  if (gap < 0) throw new Error("the sentence has no gap '_'");
  const answer = text(row, 'answer').trim();
  if (answer !== '1' && answer !== '2') throw new Error(`the answer must be 1 or 2, found '${answer}'`);
  return {
    context_options: ['option1', 'option2'].map((name) => sentence.slice(0, gap) + text(row, name)),
    continuation: sentence.slice(gap + 1).trim(),
    gold: Number(answer) - 1,
  };
}

/** The last word is asked. */
function lambadaItem(row: DataRow): object {
  const whole = text(row, 'text').trim();
  const space = whole.lastIndexOf(' ');
  if (space < 0) throw new Error('the text has one word');
  return { context: whole.slice(0, space), continuation: whole.slice(space + 1) };
}

/** As Python's `capitalize`. */
const capitalized = (words: string): string => words.charAt(0).toUpperCase() + words.slice(1).toLowerCase();

/** HellaSwag without the marks of WikiHow (`preprocess` in lm-evaluation-harness' utils.py). */
const cleaned = (words: string): string =>
  words
    .trim()
    .replaceAll(' [title]', '. ')
    .replace(/\[.*?\]/g, '')
    .replaceAll('  ', ' ');
