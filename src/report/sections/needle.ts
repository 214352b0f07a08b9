import { needleFigures, needleOverview } from '../needle-figures.js';
import { formatBytes, formatSeconds, formatTokenCount } from '../../results/display.js';
import { fileNamePart } from '../../files/write.js';
import { groupRowsBy } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { escapeHtml, figure, htmlTable, paragraph } from '../html.js';
import type { ReportSource, Section } from '../section.js';
import { findTables, legendName, numberIn, percent, shown, textIn } from '../tables.js';

function contextTable(rows: readonly Row[]): string {
  return htmlTable({
    head: [
      'model',
      'needles',
      'context',
      'trials',
      'accuracy',
      '95 % interval',
      'first token',
      'peak memory',
    ],
    rows: rows.map((row) => [
      legendName(row, true),
      textIn(row, 'needles'),
      shown(row, 'context', formatTokenCount),
      textIn(row, 'trials'),
      percent(numberIn(row, 'accuracy')),
      `${percent(numberIn(row, 'interval_low'))} – ${percent(numberIn(row, 'interval_high'))}`,
      shown(row, 'first_token_seconds', formatSeconds),
      shown(row, 'peak_bytes', formatBytes),
    ]),
    words: 1,
  });
}

/** The pictures of one run; runs below the directory are told apart by their places. */
function figuresOf(place: string, cells: readonly Row[], contexts: readonly Row[]): [string, string][] {
  const prefix = place === '' ? '' : `${fileNamePart(place)}-`;
  return [...needleFigures(cells, contexts)].map(([file, svg]) => [prefix + file, svg]);
}

/**
 * All models of all runs in one picture: one needle of the standard wording in the first haystack, the first run's figures
 * where several have the same model and context. Null for fewer than two runs.
 */
function allModels(runs: readonly (readonly Row[])[]): string | null {
  if (runs.length < 2) return null;
  const rows = runs.flat().filter(({ needles, variant }) => needles === 1 && variant === 'standard');
  const alike = rows.filter(({ haystack }) => haystack === rows[0]?.haystack);
  const keys = ['model', 'architecture', 'self_decoder', 'context'] as const;
  const firsts = groupRowsBy(alike, keys).flatMap((cell) => cell.slice(0, 1));
  return needleOverview(firsts.sort((a, b) => Number(a.context) - Number(b.context)));
}

export function needleSection({ directory }: ReportSource): Section | null {
  const runs = findTables(directory, 'needle');
  if (runs.length === 0) return null;
  const contexts = new Map(findTables(directory, 'needle-contexts').map(({ place, rows }) => [place, rows]));
  const text =
    'Share of trials that give exactly the number hidden in the text, by context length and by the depth of the needle.';
  const parts = runs.map(({ place, rows }) => {
    const summary = contexts.get(place) ?? [];
    const figures = figuresOf(
      place,
      rows.filter(({ status }) => status !== 'error'),
      summary,
    );
    const heading = place === '' ? '' : `<h3>${escapeHtml(place)}</h3>\n`;
    const table = summary.length > 0 ? contextTable(summary) : '';
    return { figures, body: heading + figures.map(([, svg]) => figure(svg)).join('\n') + table };
  });
  const together = allModels([...contexts.values()]);
  return {
    title: 'Needle in a haystack',
    body:
      paragraph(text) +
      (together === null ? '' : figure(together)) +
      parts.map(({ body }) => body).join('\n'),
    figures: {
      ...(together === null ? {} : { 'needle-models': together }),
      ...Object.fromEntries(parts.flatMap(({ figures }) => figures)),
    },
  };
}
