import { perplexityFits } from '../../evaluation/perplexity/fit.js';
import { formatNumber, formatTokenCount } from '../../results/display.js';
import type { Row } from '../../results/schema.js';
import { perplexityFigure } from '../perplexity-figure.js';
import { figure, htmlTable, paragraph } from '../html.js';
import type { ReportSource, Section } from '../section.js';
import { findRows, legendName, shown, textIn } from '../tables.js';

export function perplexitySection({ directory }: ReportSource): Section | null {
  const rows = findRows(directory, 'perplexity');
  if (rows.length === 0) return null;
  const svg = perplexityFigure(rows);
  const text =
    'Mean loss of all tokens of a document up to a position: where it falls, the model makes use of more context.';
  const body = paragraph(text) + figure(svg) + fitTable(rows);
  return { title: 'Long documents', body, figures: { perplexity: svg } };
}

/** The power laws; empty where too few positions were measured. */
function fitTable(rows: readonly Row[]): string {
  const fits = perplexityFits(rows).rows;
  if (fits.length === 0) return '';
  return (
    paragraph('Fitted to the loss: c / position^p, of the mean to positions that all documents reach.') +
    htmlTable({
      head: ['model', 'document', 'from', 'to', 'p', '±', 'c'],
      rows: fits.map((fit) => [
        legendName(fit, true),
        textIn(fit, 'document'),
        shown(fit, 'from_position', formatTokenCount),
        shown(fit, 'to_position', formatTokenCount),
        shown(fit, 'exponent', formatNumber),
        shown(fit, 'exponent_error', formatNumber),
        shown(fit, 'coefficient', formatNumber),
      ]),
      words: 2,
    })
  );
}
