/** A part of the page; a section whose tables are not in the directory is null. */
export interface Section {
  title: string;
  /** HTML, the charts of `figures` among it. */
  body: string;
  /** Charts by file name stem, written beside the page as SVG too. */
  figures: Readonly<Record<string, string>>;
}

export type SectionBuilder = (directory: string) => Section | null | Promise<Section | null>;
