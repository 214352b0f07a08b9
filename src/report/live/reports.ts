/** The reports of the directories that a live page links to. Nothing is written into the directories. */
import { basename, resolve } from 'node:path';
import { RunError, YocoError } from '../../errors.js';
import { composeReport, type Report } from '../build-report.js';
import { shownFiles } from './inside.js';
import type { LiveRuns } from './runs.js';
import type { Link } from './view.js';

/** The last name of a directory, also of `.`. */
export const nameOf = (directory: string): string => basename(resolve(directory)) || directory;

export class Reports {
  /** By directory: links to the sections, and of which tables. Sections come and go with tables, not with rows. */
  private readonly sections = new Map<
    string,
    { readonly tables: string; readonly found: Report['sections'] }
  >();

  constructor(
    private readonly runs: LiveRuns,
    private readonly references: readonly string[],
  ) {}

  /** Links to the sections of all reports. A directory without results has none. */
  async links(): Promise<Link[]> {
    const { directories } = this.runs;
    this.runs.refresh();
    const links: Link[] = [];
    for (const [index, directory] of directories.entries()) {
      const prefix = directories.length > 1 ? `${nameOf(directory)}: ` : '';
      for (const { title, anchor } of await this.sectionsOf(directory)) {
        links.push({ text: prefix + title, href: `/report/${index}#${anchor}` });
      }
    }
    return links;
  }

  /** The report of a directory as it is now. @throws RunError where there is none */
  async page(index: number): Promise<string> {
    const directory = this.runs.directories[index];
    if (directory === undefined) throw new RunError(`there is no report ${index}`);
    return (await this.compose(directory)).html;
  }

  private async sectionsOf(directory: string): Promise<Report['sections']> {
    const { tables } = this.runs;
    const known = this.sections.get(directory);
    if (known?.tables === tables) return known.found;
    let found: Report['sections'] = [];
    try {
      found = (await this.compose(directory)).sections;
    } catch (error) {
      if (!(error instanceof YocoError)) throw error;
    }
    this.sections.set(directory, { tables, found });
    return found;
  }

  /** A link out of the directory would show what lies elsewhere. */
  private async compose(directory: string): Promise<Report> {
    const [outside] = shownFiles(directory).refused;
    if (outside !== undefined) throw new RunError(outside);
    return composeReport(directory, this.references);
  }
}
