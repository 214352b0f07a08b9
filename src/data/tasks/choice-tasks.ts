/** The tasks of the paper's harness table and HellaSwag, as JSON Lines: what is asked, with which continuations, and which is right. */
import { createHash, type Hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { RunError, UsageError } from '../../errors.js';
import { Random } from '../../random.js';
import { readJsonLines } from '../files.js';
import { chanceOf, solvedExample, type Task, type TaskItem, type TaskKind, type TaskMetric } from './task.js';

type Fields = Readonly<Record<string, unknown>>;
type UnnumberedItem = Omit<TaskItem, 'index'>;

interface TaskDefinition {
  /** Names the file may have, without `.jsonl`; that of the examples ends in `_train`. */
  readonly files: readonly string[];
  readonly kind: TaskKind;
  readonly metrics: readonly TaskMetric[];
  readonly version: number;
  readonly read: (fields: Fields) => UnnumberedItem;
}

const choiceTask = (files: readonly string[], read: (fields: Fields) => UnnumberedItem): TaskDefinition => ({
  files,
  read,
  version: 1,
  kind: 'choice',
  metrics: ['accuracy', 'accuracy_normalized'],
});

/**
 * Prompts as in lm-evaluation-harness: a question ends in `Answer:`, a statement is continued. The official code joins
 * context and choice with one space, too (YOCO/yoco/tasks/harness_task.py).
 */
const question = (fields: Fields): UnnumberedItem =>
  readChoices(fields, (query) => `${query.trimEnd()}\nAnswer:`);
const statement = (fields: Fields): UnnumberedItem => readChoices(fields, (query) => query.trimEnd());

const TASKS: Readonly<Record<string, TaskDefinition>> = {
  'arc-easy': choiceTask(['arc_easy'], question),
  'arc-challenge': choiceTask(['arc_challenge'], question),
  piqa: choiceTask(['piqa'], question),
  boolq: choiceTask(['boolq'], question),
  openbookqa: choiceTask(['openbook_qa', 'openbookqa'], statement),
  winogrande: { ...choiceTask(['winogrande'], readPartial), metrics: ['accuracy'] },
  lambada: {
    files: ['lambada_openai', 'lambada'],
    kind: 'cloze',
    metrics: ['accuracy', 'perplexity'],
    version: 1,
    read: readCloze,
  },
  hellaswag: choiceTask(['hellaswag'], statement),
  sciq: choiceTask(['sciq'], readSciq),
};

export const TASK_NAMES: readonly string[] = Object.keys(TASKS);

export interface ChoiceTaskOptions {
  /** Items from the first; default all. */
  readonly limit?: number;
  /** Solved examples before each item, drawn from the train split; default 0. */
  readonly shots?: number;
  /** Of the draw of examples. */
  readonly seed?: number;
}

/** Is the file of a task there? */
export const hasChoiceTask = (name: string, directory: string): boolean =>
  taskFile(definitionOf(name).files, directory) !== undefined;

/**
 * @throws UsageError for an unknown name, a missing file or too few examples, RunError for a malformed file (file and
 *   line named) and for examples that are asked
 */
export function loadChoiceTask(
  name: string,
  directory: string,
  { limit = Infinity, shots = 0, seed = 1 }: ChoiceTaskOptions = {},
): Task {
  const { files, kind, metrics, version, read } = definitionOf(name);
  const hash = createHash('sha256');
  const all = readItems(requireFile(name, files, directory), read, hash);
  const items = all.slice(0, limit).map((item, index): TaskItem => ({ index, ...item }));
  const examples = shots > 0 ? drawExamples(name, directory, { shots, seed, asked: items, hash }) : [];
  return {
    ...{ name, kind, metrics, version, items, examples },
    opening: '',
    sha256: hash.digest('hex'),
    chance: kind === 'choice' ? chanceOf(items) : null,
  };
}

function definitionOf(name: string): TaskDefinition {
  const definition = Object.hasOwn(TASKS, name) ? TASKS[name] : undefined;
  if (definition) return definition;
  throw new UsageError(`unknown task '${name}': the tasks are ${TASK_NAMES.join(', ')}`);
}

const taskFile = (stems: readonly string[], directory: string): string | undefined =>
  stems.map((stem) => join(directory, `${stem}.jsonl`)).find((file) => existsSync(file));

function requireFile(name: string, stems: readonly string[], directory: string): string {
  const path = taskFile(stems, directory);
  if (path !== undefined) return path;
  const files = stems.map((stem) => `${stem}.jsonl`).join(' or ');
  throw new UsageError(`${directory} has no file ${files} for task ${name}`);
}

function readItems(path: string, read: TaskDefinition['read'], hash: Hash): UnnumberedItem[] {
  const items = [...readJsonLines(path, read, (bytes) => hash.update(bytes))];
  if (items.length === 0) throw new RunError(`${path} holds no questions`);
  return items;
}

interface Draw {
  readonly shots: number;
  readonly seed: number;
  readonly asked: readonly UnnumberedItem[];
  readonly hash: Hash;
}

/** The same examples for every item of the task, drawn without repetition. */
function drawExamples(name: string, directory: string, { shots, seed, asked, hash }: Draw): string[] {
  const { files, read } = definitionOf(name);
  const path = requireFile(
    `${name} with --shots`,
    files.map((stem) => `${stem}_train`),
    directory,
  );
  const pool = readItems(path, read, hash).map(solvedExample);
  if (pool.length < shots) {
    throw new UsageError(`${path} has ${pool.length} examples: --shots ${shots} is too many`);
  }
  const solutions = new Set(asked.map(solvedExample));
  const leak = pool.findIndex((example) => solutions.has(example));
  if (leak >= 0) {
    throw new RunError(`${path} holds a question that is asked (example ${leak + 1}): use the train split`);
  }
  return new Random(seed).fork(`shots ${name}`).shuffle(pool).slice(0, shots);
}

function textField(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== 'string' || value.trim() === '')
    throw new Error(`expected a text in the field "${name}"`);
  return value;
}

function textList(fields: Fields, name: string): string[] {
  const value = fields[name];
  const valid = Array.isArray(value) && value.length >= 2 && value.every((item) => typeof item === 'string');
  if (!valid) throw new Error(`expected a list of two or more texts in the field "${name}"`);
  const empty = value.findIndex((text) => text.trim() === '');
  if (empty >= 0) throw new Error(`text ${empty + 1} in the field "${name}" is empty`);
  return value;
}

function goldField(fields: Fields, choices: number): number {
  const { gold } = fields;
  if (typeof gold === 'number' && Number.isInteger(gold) && gold >= 0 && gold < choices) return gold;
  throw new Error(`expected a number from 0 to ${choices - 1} in the field "gold"`);
}

const optionsAfter = (context: string, choices: readonly string[]): UnnumberedItem['options'] =>
  choices.map((choice) => ({ context, continuation: ` ${choice.trim()}` }));

function readChoices(fields: Fields, prompt: (query: string) => string): UnnumberedItem {
  const context = prompt(textField(fields, 'query'));
  const choices = textList(fields, 'choices');
  return { options: optionsAfter(context, choices), gold: goldField(fields, choices.length) };
}

/** Partial scoring (Trinh and Le 2018): each option completes the context, and what follows is scored. */
function readPartial(fields: Fields): UnnumberedItem {
  const contexts = textList(fields, 'context_options');
  const continuation = ` ${textField(fields, 'continuation').trim()}`;
  return {
    options: contexts.map((context) => ({ context: context.trimEnd(), continuation })),
    gold: goldField(fields, contexts.length),
  };
}

function readCloze(fields: Fields): UnnumberedItem {
  const context = textField(fields, 'context').trimEnd();
  return { options: [{ context, continuation: ` ${textField(fields, 'continuation').trim()}` }], gold: 0 };
}

/** SciQ with the fields of the Hugging Face data set; the prompt of lm-evaluation-harness, the right answer last. */
function readSciq(fields: Fields): UnnumberedItem {
  const { support = '' } = fields;
  if (typeof support !== 'string') throw new Error('expected a text in the field "support"');
  const context = `${support}\nQuestion: ${textField(fields, 'question')}\nAnswer:`.trimStart();
  const names = ['distractor1', 'distractor2', 'distractor3', 'correct_answer'];
  const choices = names.map((name) => textField(fields, name));
  return { options: optionsAfter(context, choices), gold: choices.length - 1 };
}
