import { perplexityFigure } from '../../evaluation/perplexity/tables.js';
import { figure, paragraph } from '../html.js';
import type { Section } from '../section.js';
import { findRows } from '../tables.js';

export async function perplexitySection(directory: string): Promise<Section | null> {
  const rows = findRows(directory, 'perplexity');
  if (rows.length === 0) return null;
  const svg = await perplexityFigure(rows);
  const text =
    'Mean loss of all tokens of a document up to a position: where it falls, the model makes use of more context.';
  return { title: 'Long documents', body: paragraph(text) + figure(svg), figures: { perplexity: svg } };
}
