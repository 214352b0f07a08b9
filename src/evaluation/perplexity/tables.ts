/** The table of `yoco perplexity` and its picture. */
import { MODEL_COLUMNS } from '../../sweep/model-key.js';
import { formatTokenCount } from '../../results/display.js';
import { groupRows } from '../../results/group.js';
import type { Row, Schema } from '../../results/schema.js';
import { WEIGHTS_COLUMN } from '../candidates.js';

export const PERPLEXITY_SCHEMA: Schema = {
  name: 'perplexity',
  columns: [
    ...MODEL_COLUMNS,
    {
      name: 'document',
      kind: 'key',
      description: 'file, or mean: the mean over the documents that are so long',
    },
    { name: 'position', kind: 'key', description: 'tokens of the document read', display: 'count' },
    WEIGHTS_COLUMN,
    { name: 'documents', kind: 'result', description: 'documents in a mean' },
    { name: 'tokens', kind: 'result', description: 'tokens with a loss', display: 'count' },
    {
      name: 'loss',
      kind: 'result',
      description: 'mean loss of all tokens up to the position, nats per token',
      digits: 6,
      better: 'lower',
    },
    { name: 'perplexity', kind: 'result', description: 'exp of the loss', digits: 4, better: 'lower' },
    {
      name: 'loss_since_last',
      kind: 'result',
      description: 'mean loss of the tokens after the position before, nats per token',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'tokens_per_second',
      kind: 'timing',
      description: 'rate over the whole document',
      digits: 1,
      better: 'higher',
    },
  ],
};

/** The name of the row that is the mean over documents. */
export const MEAN = 'mean';

/** Cumulative loss against position: the means where there are some, else the documents. */
export async function perplexityFigure(rows: readonly Row[]): Promise<string> {
  const { lineChart } = await import('../../report/charts.js');
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
