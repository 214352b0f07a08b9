/** The picture of `yoco perplexity`. */
import { drawPictures } from './pictures.js';
import { rowsIn } from './tables.js';
import { MEAN } from '../evaluation/perplexity/tables.js';
import { formatTokenCount } from '../results/display.js';
import { groupRows } from '../results/group.js';
import type { Row } from '../results/schema.js';
import { lineChart } from './charts.js';

/** Cumulative loss against position: the means where there are some, else the documents. */
export function perplexityFigure(rows: readonly Row[]): string {
  const means = rows.filter(({ document }) => document === MEAN);
  const shown = means.length > 0 ? means : rows;
  const several = new Set(shown.map(({ document }) => document)).size > 1;
  const nameOf = ({ model, architecture, document }: Row): string =>
    [String(architecture), String(model), ...(several ? [String(document)] : [])].join(' ');
  const positions = shown.map(({ position }) => Number(position));
  return lineChart({
    title: 'Cumulative loss against position',
    subtitle:
      means.length > 0
        ? `mean over the documents that reach a position, up to ${formatTokenCount(Math.max(...positions))} tokens`
        : [...new Set(shown.map(({ document }) => String(document)))].join(', '),
    x: { label: 'position (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'loss (nats per token)' },
    series: [...groupRows(shown, nameOf)].map(([name, group]) => ({
      name,
      points: group.map((row) => [Number(row.position), Number(row.loss)] as const),
    })),
  });
}

/** Draws the table that a directory holds, rows of earlier runs included. @returns the paths written */
export async function writePerplexityFigure(directory: string): Promise<string[]> {
  const rows = rowsIn(directory, 'perplexity');
  const pictures = new Map(rows.length === 0 ? [] : [['perplexity', perplexityFigure(rows)]]);
  return drawPictures(directory, pictures, { list: 'perplexity-figures.json' });
}
