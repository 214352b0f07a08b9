/** `report.html` from a results directory: every picture and table for which there are results. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { RunError, UsageError } from '../errors.js';
import { writeDerived } from '../results/derived.js';
import { readResultRows } from '../results/read.js';
import { formatBytes } from '../results/display.js';
import { lockDirectory } from '../files/lock.js';
import { writeFileAtomic } from '../files/write.js';
import { escapeHtml, htmlPage } from './html.js';
import { notesSection } from './notes.js';
import { drawPictures } from './pictures.js';
import { findRatios } from './ratios.js';
import { findRuns, type RunInfo } from './runs.js';
import type { ReportSource, Section, SectionBuilder } from './section.js';
import { decodingModesSection, trainingRateSection } from './sections/benchmarks.js';
import { mmluSection, tasksSection } from './sections/choices.js';
import { endToEndSection } from './sections/end-to-end.js';
import { memorySection } from './sections/memory.js';
import { needleSection } from './sections/needle.js';
import { perplexitySection } from './sections/perplexity.js';
import { recallSection } from './sections/recall.js';
import { ratioSection } from './sections/ratios.js';
import { prefillSection, throughputSection } from './sections/speed.js';
import { trainingComparisonSection } from './sections/training-comparison.js';
import { trainingSection } from './sections/training.js';
import { findRows } from './tables.js';

const SECTIONS: readonly SectionBuilder[] = [
  ratioSection,
  memorySection,
  prefillSection,
  throughputSection,
  endToEndSection,
  decodingModesSection,
  needleSection,
  recallSection,
  perplexitySection,
  trainingComparisonSection,
  trainingSection,
  trainingRateSection,
  mmluSection,
  tasksSection,
  notesSection,
];

const unique = (texts: readonly (string | undefined)[]): string[] => [
  ...new Set(texts.filter((text): text is string => text !== undefined)),
];

/** Where and with what the results were measured; several when the directory holds several runs. */
function provenanceLine(runs: readonly RunInfo[]): string {
  const machines = unique(
    runs.map(
      ({ machine }) =>
        machine && `${machine.cpu}, ${machine.cores} cores, ${formatBytes(machine.memoryBytes)}`,
    ),
  );
  const engines = unique(runs.map(({ engine }) => engine?.description));
  const versions = unique(
    runs.map(({ versions: found }) => found && `yoco ${found.yoco ?? ''}, Node ${found.node ?? ''}`),
  );
  return [...engines, ...machines, ...versions].join(' · ');
}

/** A word as a shell takes it; `~` in front is the home directory. */
const shellWord = (word: string): string =>
  /^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;

function commandList(runs: readonly RunInfo[]): string {
  const commands = unique(runs.map(({ command }) => command?.map(shellWord).join(' ')));
  return commands.length === 0
    ? ''
    : `<h2>Commands</h2>\n<p>What was run; the same commands give the same tables, timings aside.</p>\n<pre>${escapeHtml(commands.join('\n'))}</pre>`;
}

export interface ReportOptions {
  /** CSV files with figures of others, drawn beside ours; those called `reference.csv` in the directory are used too. */
  references?: readonly string[];
  /** Draw every chart as PNG too. */
  png?: boolean;
}

/** A page that was made and not written. */
export interface Report {
  readonly html: string;
  /** Titles of its sections, and the anchors that lead to them. */
  readonly sections: readonly { readonly title: string; readonly anchor: string }[];
  /** SVG by file name stem. */
  readonly pictures: ReadonlyMap<string, string>;
}

/** `Harness tasks` → `harness-tasks` */
const anchorOf = (title: string): string => title.toLowerCase().replace(/[^a-z0-9]+/g, '-');

/** @throws RunError when the directory holds no results, or a table or reference cannot be read */
export async function composeReport(directory: string, references: readonly string[]): Promise<Report> {
  const source: ReportSource = {
    directory,
    references: [...findRows(directory, 'reference'), ...references.flatMap(readResultRows)],
  };
  const sections: Section[] = [];
  for (const build of SECTIONS) {
    const section = await build(source);
    if (section) sections.push(section);
  }
  if (sections.every(({ title }) => title === 'Notes'))
    throw new RunError(`${directory} holds no results: run a measuring command with --out ${directory}`);
  const body = sections
    .map(({ title, body: html }) => `<h2 id="${anchorOf(title)}">${escapeHtml(title)}</h2>\n${html}`)
    .join('\n');
  const runs = findRuns(directory);
  const page = {
    title: 'You Only Cache Once, measured',
    subtitle: provenanceLine(runs),
    body: `${body}\n${commandList(runs)}`,
  };
  return {
    html: htmlPage(page),
    sections: sections.map(({ title }) => ({ title, anchor: anchorOf(title) })),
    pictures: new Map(sections.flatMap(({ figures }) => Object.entries(figures))),
  };
}

/**
 * Writes `report.html`, its charts as `figures/*.svg`, and the ratios on it as `ratios.timings.csv`.
 *
 * @returns the page's path
 * @throws UsageError when the directory does not exist, RunError when it holds no results, a reference cannot be read, or
 *   another process makes its report
 */
export async function buildReport(
  directory: string,
  { references = [], png = false }: ReportOptions = {},
): Promise<string> {
  if (!existsSync(directory)) throw new UsageError(`there is no directory ${directory}`);
  const unlock = lockDirectory(directory, 'report', { doing: 'making the report', reentrant: true });
  try {
    const { html, pictures } = await composeReport(directory, references);
    await drawPictures(join(directory, 'figures'), pictures, { png, list: 'figures.json' });
    writeDerived(directory, findRatios(directory));
    const page = join(directory, 'report.html');
    writeFileAtomic(page, html);
    return page;
  } finally {
    unlock();
  }
}
