/** Multiple choice: MMLU by category, and the harness tasks. */
import { formatNumber } from '../../results/display.js';
import { groupRows } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { htmlTable, paragraph } from '../html.js';
import type { ReportSource, Section } from '../section.js';
import { findRows, legendName, numberIn, percent, textIn } from '../tables.js';

/** Accuracy with its standard error and, where it is known, how many worked examples fitted on average. */
function accuracy(row: Row): string {
  const error = numberIn(row, 'standard_error');
  const shots = numberIn(row, 'shots');
  const value = percent(numberIn(row, 'accuracy'));
  return [
    value,
    ...(error === null ? [] : [`± ${(error * 100).toFixed(1)}`]),
    ...(shots === null ? [] : [`(${formatNumber(shots)} shots)`]),
  ].join(' ');
}

/** A line for each `name` of the rows, a column for each model, chance last. */
function comparison(rows: readonly Row[], name: string, head: string): string {
  const models = [...groupRows(rows, (row) => legendName(row, true)).keys()];
  const lines = [...groupRows(rows, (row) => textIn(row, name))].map(([label, group]) => {
    const cells = models.map((model) => group.find((row) => legendName(row, true) === model));
    const [first = {}] = group;
    return [
      label,
      textIn(first, 'questions'),
      ...cells.map((row) => (row ? accuracy(row) : '–')),
      percent(numberIn(first, 'chance')),
    ];
  });
  return htmlTable({ head: [head, 'questions', ...models, 'chance'], rows: lines, words: 1 });
}

export function mmluSection({ directory }: ReportSource): Section | null {
  const rows = findRows(directory, 'eval-mmlu').filter((row) => textIn(row, 'level') !== 'subject');
  if (rows.length === 0) return null;
  const sets = [...groupRows(rows, (row) => textIn(row, 'data'))].map(
    ([data, group]) =>
      paragraph(
        `Question set: ${data}. Accuracy ± standard error; micro: over questions, macro: over subjects. Shots: worked examples that fitted the context, on average, of the five of the protocol.`,
      ) + comparison(group, 'name', 'category'),
  );
  return { title: 'Multiple choice', body: sets.join('\n'), figures: {} };
}

export function tasksSection({ directory }: ReportSource): Section | null {
  const rows = findRows(directory, 'eval');
  if (rows.length === 0) return null;
  const text = 'Accuracy ± standard error, zero-shot, by likelihood of the options.';
  return { title: 'Harness tasks', body: paragraph(text) + comparison(rows, 'task', 'task'), figures: {} };
}
