import { perplexityFigure } from '../perplexity-figure.js';
import { figure, paragraph } from '../html.js';
import type { ReportSource, Section } from '../section.js';
import { findRows } from '../tables.js';

export function perplexitySection({ directory }: ReportSource): Section | null {
  const rows = findRows(directory, 'perplexity');
  if (rows.length === 0) return null;
  const svg = perplexityFigure(rows);
  const text =
    'Mean loss of all tokens of a document up to a position: where it falls, the model makes use of more context.';
  return { title: 'Long documents', body: paragraph(text) + figure(svg), figures: { perplexity: svg } };
}
