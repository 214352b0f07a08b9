/** Finds the tables of a results directory, with timings joined to their results. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { groupRowsBy } from '../results/group.js';
import { readResultRows } from '../results/read.js';
import { typesOfRun } from '../results/run-file.js';
import type { Cell, Row } from '../results/schema.js';

export interface Table {
  /** Directory of the file relative to the results directory; empty at its top. */
  readonly place: string;
  /** Each with the `types` of its run. */
  readonly rows: readonly Row[];
}

/** Adds the timings of the rows with the same values in the columns both files have. */
function joinTimings(rows: readonly Row[], timings: readonly Row[]): Row[] {
  const [row = {}] = rows;
  const [timing = {}] = timings;
  const shared = Object.keys(timing).filter((name) => name in row);
  const key = (candidate: Row): string => JSON.stringify(shared.map((name) => candidate[name]));
  const byKey = new Map(timings.map((candidate) => [key(candidate), candidate]));
  return rows.map((candidate) => ({ ...candidate, ...byKey.get(key(candidate)) }));
}

function readTable(directory: string, place: string, name: string): Table {
  const file = (suffix: string): string => join(directory, place, name + suffix);
  const read = (path: string): Row[] => (existsSync(path) ? readResultRows(path) : []);
  const timings = read(file('.timings.csv'));
  const results = read(file('.csv'));
  const rows = results.length > 0 ? joinTimings(results, timings) : timings;
  const types = typesOfRun(file('.run.json'));
  return { place, rows: rows.map((row) => ({ ...row, types })) };
}

/** All tables called `name` in the directory and below it, in the order of their places, those of other types after the others. */
export function findTables(directory: string, name: string): Table[] {
  const names = [`${name}.csv`, `${name}.timings.csv`];
  const places = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => names.includes(basename(path)))
    .map((path) => (dirname(path) === '.' ? '' : dirname(path)));
  const tables = [...new Set(places)].sort().map((place) => readTable(directory, place, name));
  const typesOf = ({ rows: [row = {}] }: Table): string => textIn(row, 'types');
  return tables.sort((a, b) => typesOf(a).localeCompare(typesOf(b)));
}

/** The measured rows of a table that lies in the directory itself. */
export const rowsIn = (directory: string, name: string): Row[] =>
  readTable(directory, '', name).rows.filter(({ status }) => status !== 'error');

/** All measured rows of the tables called `name`, each with the `folder` it is from. */
export function findRows(directory: string, name: string): Row[] {
  return findTables(directory, name).flatMap(({ place, rows }) =>
    rows.filter(({ status }) => status !== 'error').map((row) => ({ ...row, folder: place || '.' })),
  );
}

/** A sentence where contexts were not computed whole; empty where all were. */
export const filledNote = (rows: readonly Row[]): string =>
  rows.some((row) => (numberIn(row, 'prefilled_tokens') ?? Infinity) < Number(row.context))
    ? 'Of long contexts only the last chunks were computed, after random keys and values. '
    : '';

/** Whether a row of the table profile-prefill is the sum of interpolated chunks. */
export const isSampled = (row: Row): boolean =>
  (numberIn(row, 'prefilled_tokens') ?? Infinity) < Number(row.context);

/** The rows of all tables profile-prefill; sampled ones only where no whole prefill of the same cell was timed. */
export function prefillRows(directory: string): Row[] {
  const keys = ['model', 'architecture', 'self_decoder', 'types', 'early_exit', 'context'] as const;
  return groupRowsBy(findRows(directory, 'profile-prefill'), keys).flatMap((cell) => {
    const whole = cell.filter((row) => !isSampled(row));
    return whole.length > 0 ? whole : cell;
  });
}

export const numberIn = (row: Row, column: string): number | null => {
  const cell: Cell | undefined = row[column];
  return typeof cell === 'number' ? cell : null;
};

export const textIn = (row: Row, column: string): string => {
  const cell = row[column];
  return cell === null || cell === undefined ? '' : String(cell);
};

/**
 * `yoco sliding-window, products in float8`: what a legend calls the model of a row. Gated retention is the default and not named, nor
 * is a mixer that is part of the model's name.
 */
export function legendName(row: Row, withModel: boolean): string {
  const [architecture, model] = [textIn(row, 'architecture'), textIn(row, 'model')];
  const selfDecoder = textIn(row, 'self_decoder');
  const isUnsaid =
    ['', 'gated-retention'].includes(selfDecoder) || (withModel && model.includes(selfDecoder));
  const mixer = isUnsaid ? '' : ` ${selfDecoder}`;
  const types = textIn(row, 'types');
  const suffix = mixer + (types === '' ? '' : `, ${types}`);
  if (!withModel) return architecture + suffix;
  return (model.startsWith(architecture) ? model : `${architecture} ${model}`) + suffix;
}

/**
 * The names that `nameOf` gives, with the folder where several folders have measured what has one name at one context, such
 * as types of keys and values.
 */
export function withFolders(rows: readonly Row[], nameOf: (row: Row) => string): (row: Row) => string {
  const cells = rows.map((row) => `${nameOf(row)} ${textIn(row, 'context')}`);
  if (new Set(cells).size === cells.length) return nameOf;
  return (row) => `${nameOf(row)}, ${textIn(row, 'folder')}`;
}

/** Rows in ascending context. */
export const byContext = (rows: readonly Row[]): Row[] =>
  [...rows].sort((a, b) => (numberIn(a, 'context') ?? 0) - (numberIn(b, 'context') ?? 0));

/** The points of two columns, in ascending x; rows that lack one are left out. */
export function pointsOf(rows: readonly Row[], x: string, y: string): [number, number][] {
  return rows
    .map((row): [number | null, number | null] => [numberIn(row, x), numberIn(row, y)])
    .filter((point): point is [number, number] => point[0] !== null && point[1] !== null)
    .sort(([a], [b]) => a - b);
}

/** Means of equal stretches of a curve, at most so many, so that the noise of single steps does not hide it. */
export function meansOfStretches(points: readonly [number, number][], stretches: number): [number, number][] {
  const size = Math.max(1, Math.ceil(points.length / stretches));
  return Array.from({ length: Math.ceil(points.length / size) }, (_, index) => {
    const part = points.slice(index * size, (index + 1) * size);
    const mean = part.reduce((sum, [, value]) => sum + value, 0) / part.length;
    return [part.at(-1)?.[0] ?? 0, mean];
  });
}

/** Error bars from the columns of both ends; rows that lack one are left out. */
export function barsOf(
  rows: readonly Row[],
  x: string,
  ends: (row: Row) => readonly [low: number | null, high: number | null],
): [number, number, number][] {
  return rows
    .map((row) => [numberIn(row, x), ...ends(row)] as const)
    .filter((bar): bar is [number, number, number] => bar.every((value) => value !== null))
    .map((bar) => [...bar]);
}

/** A number as a table of the page shows it; not measured is `–`. */
export const shown = (row: Row, column: string, format: (value: number) => string): string => {
  const value = numberIn(row, column);
  return value === null ? '–' : format(value);
};

/** 0.123 → `12.3 %`. */
export const percent = (value: number | null): string =>
  value === null ? '–' : `${(value * 100).toFixed(1)} %`;
