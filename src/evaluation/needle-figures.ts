/** Heat maps of the needle test: accuracy over context and depth, one for each model, variant and number of needles. */
import { join } from 'node:path';
import { formatTokenCount } from '../cli/sizes.js';
import { heatMap } from '../report/charts.js';
import { writeFileAtomic } from '../results/files.js';
import { groupRows } from '../results/group.js';
import type { Row } from '../results/schema.js';

/** Columns that tell one heat map from another. */
const MAP_COLUMNS = ['model', 'architecture', 'self_decoder', 'haystack', 'variant', 'needles'] as const;

/** SVG by file name, from the rows of the table `needle`. */
export function needleFigures(rows: readonly Row[]): Map<string, string> {
  const groups = [...groupRows(rows, (row) => JSON.stringify(MAP_COLUMNS.map((name) => row[name]))).values()];
  const varying = MAP_COLUMNS.filter((name) => new Set(rows.map((row) => row[name])).size > 1);
  return new Map(groups.map((group) => [fileName(group[0] ?? {}, varying), draw(group)]));
}

/** @returns the paths written */
export function writeNeedleFigures(directory: string, rows: readonly Row[]): string[] {
  return [...needleFigures(rows)].map(([name, svg]) => {
    const path = join(directory, name);
    writeFileAtomic(path, svg);
    return path;
  });
}

function fileName(row: Row, varying: readonly string[]): string {
  const parts = varying.map((name) =>
    name === 'needles' ? `${String(row[name])}-needles` : String(row[name] ?? ''),
  );
  const slug = parts
    .join('-')
    .replace(/[^\w.]+/g, '-')
    .replace(/^-+|-+$/g, '');
  return slug === '' ? 'needle.svg' : `needle-${slug}.svg`;
}

function draw(rows: readonly Row[]): string {
  const [row = {}] = rows;
  const distinct = (column: string): number[] =>
    [...new Set(rows.map((cell) => Number(cell[column])))].sort((a, b) => a - b);
  const contexts = distinct('context');
  const depths = distinct('depth');
  const accuracy = (depth: number, context: number): number | null => {
    const cell = rows.find((one) => one.depth === depth && one.context === context);
    return typeof cell?.accuracy === 'number' ? cell.accuracy : null;
  };
  const needles = Number(row.needles);
  const trials = Math.max(...rows.map((one) => Number(one.trials ?? 0)));
  const mixer = row.self_decoder ? `, ${String(row.self_decoder)}` : '';
  const variant = row.variant === 'standard' ? '' : `, ${String(row.variant)}`;
  return heatMap({
    title: `Needle in a haystack: ${String(row.model)} (${String(row.architecture)}${mixer})`,
    subtitle: `${needles === 1 ? 'one needle' : `one of ${needles} needles`}${variant}, ${trials} trials per cell, in ${String(row.haystack)}`,
    x: { label: 'context (tokens)', categories: contexts.map(formatTokenCount) },
    y: { label: 'needle depth', categories: depths.map((depth) => `${depth} %`) },
    values: depths.map((depth) => contexts.map((context) => accuracy(depth, context))),
  });
}
