import { perplexityFits } from '../../evaluation/perplexity/fit.js';
import { formatNumber, formatTokenCount } from '../../results/display.js';
import type { Row } from '../../results/schema.js';
import { fileNamePart } from '../../files/write.js';
import { groupRows } from '../../results/group.js';
import { escapeHtml, figure, htmlTable, paragraph } from '../html.js';
import { passagesFigure, perplexityFigure } from '../perplexity-figure.js';
import type { ReportSource, Section } from '../section.js';
import { findRows, legendName, shown, textIn } from '../tables.js';

export function perplexitySection({ directory }: ReportSource): Section | null {
  const parts = [...partsOf(directory, 'perplexity', documents), ...partsOf(directory, 'passages', passages)];
  if (parts.length === 0) return null;
  const text =
    'Mean loss of all tokens of a document up to a position: where it falls, the model makes use of more context.';
  return {
    title: 'Long documents',
    body: paragraph(text) + parts.map(({ body }) => body).join('\n'),
    figures: Object.fromEntries(parts.map(({ name, svg }) => [name, svg])),
  };
}

interface Part {
  /** File name stem of the picture. */
  readonly name: string;
  readonly svg: string;
  readonly body: string;
}

/** One part for each run: its documents are its own, so that runs do not share a picture. */
function partsOf(
  directory: string,
  table: string,
  draw: (rows: readonly Row[]) => Omit<Part, 'name'>,
): Part[] {
  return [...groupRows(findRows(directory, table), (row) => textIn(row, 'folder'))].map(([folder, rows]) => {
    const atTop = folder === '.';
    const { svg, body } = draw(rows);
    return {
      name: atTop ? table : `${fileNamePart(folder)}-${table}`,
      svg,
      body: (atTop ? '' : `<h3>${escapeHtml(folder)}</h3>\n`) + body,
    };
  });
}

function documents(rows: readonly Row[]): Omit<Part, 'name'> {
  const svg = perplexityFigure(rows);
  return { svg, body: figure(svg) + fitTable(rows) };
}

function passages(rows: readonly Row[]): Omit<Part, 'name'> {
  const svg = passagesFigure(rows);
  return { svg, body: figure(svg) };
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
