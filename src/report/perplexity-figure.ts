/** The pictures of `yoco perplexity`. */
import { perplexityFits } from '../evaluation/perplexity/fit.js';
import { MEAN } from '../evaluation/perplexity/tables.js';
import { formatTokenCount } from '../results/display.js';
import { groupRows } from '../results/group.js';
import type { Row } from '../results/schema.js';
import { valueAt } from '../sweep/power-law.js';
import { lineChart } from './charts.js';
import { drawPictures } from './pictures.js';
import { barsOf, legendName, numberIn, pointsOf, rowsIn } from './tables.js';
import { greatest } from '../sweep/statistics.js';

/** Cumulative loss against position with the fitted power law: the means where there are some, else the documents. */
export function perplexityFigure(rows: readonly Row[]): string {
  const means = rows.filter(({ document }) => document === MEAN);
  const shown = means.length > 0 ? means : rows;
  const several = new Set(shown.map(({ document }) => document)).size > 1;
  const nameOf = (row: Row): string =>
    [legendName(row, true), ...(several ? [String(row.document)] : [])].join(' ');
  const drawn = perplexityFits(rows).rows.filter((fit) => shown.some((row) => row.document === fit.document));
  const fits = new Map(drawn.map((fit) => [nameOf(fit), fit]));
  const positions = shown.map(({ position }) => Number(position));
  return lineChart({
    title: 'Cumulative loss against position',
    subtitle:
      means.length > 0
        ? `mean over the documents that reach a position, up to ${formatTokenCount(greatest(positions))} tokens`
        : [...new Set(shown.map(({ document }) => String(document)))].join(', '),
    x: { label: 'position (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'loss (nats per token)' },
    series: [...groupRows(shown, nameOf)].map(([name, group]) => ({
      name,
      points: pointsOf(group, 'position', 'loss'),
      bars: barsOf(group, 'position', errorOf),
      curve: curveOf(fits.get(name)),
    })),
  });
}

/** Perplexity of the answers in passages against the context before them. */
export function passagesFigure(rows: readonly Row[]): string {
  const answers = rows.reduce((most, row) => Math.max(most, numberIn(row, 'answer_tokens') ?? 0), 0);
  return lineChart({
    title: 'Perplexity of answers against context',
    subtitle: `${answers} tokens that the longest context gives away and the shortest does not; bars: one standard error`,
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'perplexity of answers' },
    series: [...groupRows(rows, (row) => legendName(row, true))].map(([name, group]) => ({
      name,
      points: pointsOf(group, 'context', 'answer_perplexity'),
      bars: barsOf(group, 'context', (row) => {
        const [loss, error] = [numberIn(row, 'answer_loss'), numberIn(row, 'answer_error')];
        return loss === null || error === null
          ? [null, null]
          : [Math.exp(loss - error), Math.exp(loss + error)];
      }),
    })),
  });
}

/** Draws the tables that a directory holds, rows of earlier runs included. @returns the paths written */
export async function writePerplexityFigures(directory: string): Promise<string[]> {
  const [rows, passages] = [rowsIn(directory, 'perplexity'), rowsIn(directory, 'passages')];
  const pictures = new Map<string, string>();
  if (rows.length > 0) pictures.set('perplexity', perplexityFigure(rows));
  if (passages.length > 0) pictures.set('passages', passagesFigure(passages));
  return drawPictures(directory, pictures, { list: 'perplexity-figures.json' });
}

/** One standard error to each side. */
function errorOf(row: Row): readonly [number | null, number | null] {
  const [loss, error] = [numberIn(row, 'loss'), numberIn(row, 'loss_error')];
  return loss === null || error === null ? [null, null] : [loss - error, loss + error];
}

/** The fitted law between its ends, which is a straight line in logarithms and bent in this picture. */
function curveOf(fit: Row | undefined): [number, number][] | undefined {
  if (fit === undefined) return undefined;
  const [from, to] = [Math.log(Number(fit.from_position)), Math.log(Number(fit.to_position))];
  const law = { exponent: Number(fit.exponent), coefficient: Number(fit.coefficient), floor: 0 };
  return Array.from({ length: 30 }, (_, index): [number, number] => {
    const position = Math.exp(from + ((to - from) * index) / 29);
    return [position, valueAt(law, position)];
  });
}
