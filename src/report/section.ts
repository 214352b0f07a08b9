import type { Row } from '../results/schema.js';

/** What a page is made from. */
export interface ReportSource {
  /** The results directory, searched with those below it. */
  directory: string;
  /** Figures of others for comparison: rows of tables called `reference`. */
  references: readonly Row[];
}

/** A part of the page; a section whose tables are not in the directory is null. */
export interface Section {
  title: string;
  /** HTML, the charts of `figures` among it. */
  body: string;
  /** Charts by file name stem, written beside the page as SVG too. */
  figures: Readonly<Record<string, string>>;
}

export type SectionBuilder = (source: ReportSource) => Section | null | Promise<Section | null>;
