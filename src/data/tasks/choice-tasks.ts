/** The tasks of the paper's harness table, as JSON Lines: what is asked, with which continuations, and which is right. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { RunError, UsageError } from '../../errors.js';
import { readJsonLines } from '../files.js';

/** A text and a continuation whose likelihood is asked. */
export interface ScoredOption {
  readonly context: string;
  readonly continuation: string;
}

export interface ChoiceItem {
  /** Number among the task's items, from 0. */
  readonly index: number;
  readonly options: readonly ScoredOption[];
  /** Index of the right option. */
  readonly gold: number;
}

/** `choice`: the likeliest option counts. `cloze`: the one continuation must be what greedy decoding gives. */
export type TaskKind = 'choice' | 'cloze';

export interface ChoiceTask {
  readonly name: string;
  readonly kind: TaskKind;
  /** Whether lengths of options differ, so that accuracy by likelihood per character says something else. */
  readonly normalizable: boolean;
  readonly sha256: string;
  readonly items: readonly ChoiceItem[];
  /** Accuracy of guessing; null for cloze tasks. */
  readonly chance: number | null;
}

type Fields = Readonly<Record<string, unknown>>;

interface TaskDefinition {
  readonly files: readonly string[];
  readonly kind: TaskKind;
  readonly normalizable: boolean;
  readonly read: (fields: Fields) => Omit<ChoiceItem, 'index'>;
}

/**
 * Prompts as in lm-evaluation-harness: a question ends in `Answer:`, a statement is simply continued. The official code
 * joins context and choice with one space, too (YOCO/yoco/tasks/harness_task.py).
 */
const questionTask = (...files: string[]): TaskDefinition => ({
  files,
  kind: 'choice',
  normalizable: true,
  read: (fields) => readChoices(fields, (query) => `${query.trimEnd()}\nAnswer:`),
});

const TASKS: Readonly<Record<string, TaskDefinition>> = {
  'arc-easy': questionTask('arc_easy.jsonl'),
  'arc-challenge': questionTask('arc_challenge.jsonl'),
  piqa: questionTask('piqa.jsonl'),
  boolq: questionTask('boolq.jsonl'),
  openbookqa: {
    files: ['openbook_qa.jsonl', 'openbookqa.jsonl'],
    kind: 'choice',
    normalizable: true,
    read: (fields) => readChoices(fields, (query) => query.trimEnd()),
  },
  winogrande: { files: ['winogrande.jsonl'], kind: 'choice', normalizable: false, read: readPartial },
  lambada: {
    files: ['lambada_openai.jsonl', 'lambada.jsonl'],
    kind: 'cloze',
    normalizable: false,
    read: readCloze,
  },
};

export const TASK_NAMES: readonly string[] = Object.keys(TASKS);

/**
 * @param limit items from the first; default all
 * @throws UsageError for an unknown name or a missing file, RunError for a malformed one (file and line named)
 */
export function loadChoiceTask(name: string, directory: string, limit = Infinity): ChoiceTask {
  const definition = Object.hasOwn(TASKS, name) ? TASKS[name] : undefined;
  if (definition === undefined) {
    throw new UsageError(`unknown task '${name}': the tasks are ${TASK_NAMES.join(', ')}`);
  }
  const { files, kind, normalizable, read } = definition;
  const path = files.map((file) => join(directory, file)).find((file) => existsSync(file));
  if (path === undefined)
    throw new UsageError(`${directory} has no file ${files.join(' or ')} for task ${name}`);
  const hash = createHash('sha256');
  const all = [...readJsonLines(path, read, (bytes) => hash.update(bytes))];
  if (all.length === 0) throw new RunError(`${path} holds no questions`);
  const items = all.slice(0, limit).map((item, index): ChoiceItem => ({ index, ...item }));
  const guess = items.reduce((sum, { options }) => sum + 1 / options.length, 0) / items.length;
  return {
    name,
    kind,
    normalizable,
    sha256: hash.digest('hex'),
    items,
    chance: kind === 'choice' ? guess : null,
  };
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
  return value;
}

function goldField(fields: Fields, choices: number): number {
  const { gold } = fields;
  if (typeof gold === 'number' && Number.isInteger(gold) && gold >= 0 && gold < choices) return gold;
  throw new Error(`expected a number from 0 to ${choices - 1} in the field "gold"`);
}

function readChoices(fields: Fields, prompt: (query: string) => string): Omit<ChoiceItem, 'index'> {
  const context = prompt(textField(fields, 'query'));
  const choices = textList(fields, 'choices');
  return {
    options: choices.map((choice) => ({ context, continuation: ` ${choice.trim()}` })),
    gold: goldField(fields, choices.length),
  };
}

/** Partial scoring (Trinh and Le 2018): each option completes the context, and what follows is scored. */
function readPartial(fields: Fields): Omit<ChoiceItem, 'index'> {
  const contexts = textList(fields, 'context_options');
  const continuation = ` ${textField(fields, 'continuation').trim()}`;
  return {
    options: contexts.map((context) => ({ context: context.trimEnd(), continuation })),
    gold: goldField(fields, contexts.length),
  };
}

function readCloze(fields: Fields): Omit<ChoiceItem, 'index'> {
  const context = textField(fields, 'context').trimEnd();
  return { options: [{ context, continuation: ` ${textField(fields, 'continuation').trim()}` }], gold: 0 };
}
