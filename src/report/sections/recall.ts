/** Recall tasks: accuracy against length, and against what a sequence keeps. */
import { fileNamePart } from '../../files/write.js';
import { formatBytes, formatCount, formatTokenCount } from '../../results/display.js';
import { groupRows, groupRowsBy } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { greatest, least, mean } from '../../sweep/statistics.js';
import { lineChart } from '../charts.js';
import { figure, htmlTable, paragraph } from '../html.js';
import type { ReportSource, Section } from '../section.js';
import { findRows, legendName, numberIn, percent, textIn } from '../tables.js';

/** One model, task, length and number of items, all seeds together. */
interface Cell {
  readonly name: string;
  /** Models of one kind differ in how they were trained. */
  readonly kind: string;
  readonly architecture: string;
  readonly seeds: number;
  readonly parameters: number | null;
  readonly length: number;
  readonly items: number;
  /** Bytes of states, windows, keys and values of a sequence. */
  readonly kept: number;
  readonly accuracy: number;
  /** The lowest and the highest seed. */
  readonly range: readonly [number, number];
}

/** Models whose names differ in this are one model with several seeds. */
const SEED = /-seed\d+$/;

function cellOf(rows: readonly [Row, ...Row[]]): Cell {
  const [row] = rows;
  const named = { ...row, model: textIn(row, 'model').replace(SEED, '') };
  const accuracies = rows.map((one) => numberIn(one, 'accuracy') ?? NaN);
  return {
    name: legendName(named, true),
    kind: JSON.stringify([row.architecture, row.self_decoder, row.parameters, row.state_bytes]),
    architecture: legendName(named, false),
    seeds: rows.length,
    parameters: numberIn(row, 'parameters'),
    length: numberIn(row, 'length') ?? NaN,
    items: numberIn(row, 'items') ?? NaN,
    kept: (numberIn(row, 'state_bytes') ?? 0) + (numberIn(row, 'key_value_bytes') ?? 0),
    accuracy: mean(accuracies),
    range: [least(accuracies), greatest(accuracies)],
  };
}

function cellsOf(rows: readonly Row[]): Cell[] {
  const key = (row: Row): string =>
    JSON.stringify([
      textIn(row, 'model').replace(SEED, ''),
      ...['architecture', 'self_decoder', 'folder', 'length', 'items'].map((column) => row[column]),
    ]);
  return [...groupRows(rows, key).values()].map((group) => cellOf(group as [Row, ...Row[]]));
}

/** Of the trainings of a model the one with the best mean: a learning rate has to be chosen for each. */
function bestTrainings(cells: readonly Cell[]): Cell[] {
  return [...groupRows(cells, ({ kind }) => kind).values()].flatMap((alike) => {
    const trainings = [...groupRows(alike, ({ name }) => name).values()];
    const means = trainings.map((training) => mean(training.map(({ accuracy }) => accuracy)));
    return trainings[means.indexOf(greatest(means))] ?? [];
  });
}

/** The most items of each length. */
const hardest = (cells: readonly Cell[]): Cell[] =>
  [...groupRows(cells, ({ name, length }) => JSON.stringify([name, length])).values()].flatMap((group) => {
    const most = greatest(group.map(({ items }) => items));
    return group.filter(({ items }) => items === most);
  });

function linesOf(cells: readonly Cell[], nameOf: (cell: Cell) => string, xOf: (cell: Cell) => number) {
  return [...groupRows(cells, nameOf)].map(([name, group]) => {
    const sorted = [...group].sort((a, b) => xOf(a) - xOf(b));
    return {
      name,
      points: sorted.map((cell): [number, number] => [xOf(cell), cell.accuracy]),
      bars: sorted
        .filter(({ seeds }) => seeds > 1)
        .map((cell): [number, number, number] => [xOf(cell), ...cell.range]),
    };
  });
}

const ACCURACY = { label: 'questions answered', unit: 'percent', range: [0, 1] } as const;

function lengthChart(task: string, cells: readonly Cell[]): string {
  return lineChart({
    title: `${task}: accuracy against length`,
    subtitle: 'the most items of each length; mean of the seeds, bars from the lowest to the highest',
    x: { label: 'tokens of a sequence', scale: 'log', unit: 'tokens' },
    y: ACCURACY,
    series: linesOf(
      cells,
      ({ name }) => name,
      ({ length }) => length,
    ),
  });
}

function sizeChart(task: string, cells: readonly Cell[]): string {
  const longest = greatest(cells.map(({ length }) => length));
  return lineChart({
    title: `${task}: accuracy against what a sequence keeps`,
    subtitle: `at ${formatTokenCount(longest)} tokens; states, windows, keys and values; bars from the lowest seed to the highest`,
    x: { label: 'bytes of a sequence', scale: 'log', unit: 'bytes' },
    y: ACCURACY,
    series: linesOf(
      cells.filter(({ length }) => length === longest),
      ({ architecture }) => architecture,
      ({ kept }) => kept,
    ),
  });
}

const table = (cells: readonly Cell[]): string =>
  htmlTable({
    head: ['model', 'parameters', 'seeds', 'length', 'items', 'kept', 'accuracy'],
    rows: cells.map(({ name, parameters, seeds, length, items, kept, accuracy }) => [
      name,
      parameters === null ? '–' : formatCount(parameters),
      String(seeds),
      formatTokenCount(length),
      String(items),
      formatBytes(kept),
      percent(accuracy),
    ]),
    words: 1,
  });

export function recallSection({ directory }: ReportSource): Section | null {
  const tasks = groupRowsBy(findRows(directory, 'eval-recall'), ['task', 'version']);
  if (tasks.length === 0) return null;
  const text =
    'Share of questions of which every token of the answer is right. Models whose names end in another -seedN are one model. The ' +
    'pictures show the best training of each.';
  const parts = tasks.map((rows) => {
    const task = textIn(rows[0] ?? {}, 'task');
    const cells = cellsOf(rows);
    const best = hardest(bestTrainings(cells));
    const stem = `recall-${fileNamePart(task)}`;
    return { cells, figures: { [stem]: lengthChart(task, best), [`${stem}-size`]: sizeChart(task, best) } };
  });
  return {
    title: 'Recall',
    body:
      paragraph(text) +
      parts
        .map(({ cells, figures }) => Object.values(figures).map(figure).join('\n') + table(cells))
        .join('\n'),
    figures: Object.assign({}, ...parts.map(({ figures }) => figures)) as Record<string, string>,
  };
}
