/** The training runs below some directories, as they are now. */
import { basename, dirname, join } from 'node:path';
import { YocoError } from '../../errors.js';
import { GrowingTable } from './growing-table.js';
import { shownFiles } from './inside.js';

/** The tables of a run that grow. */
const TABLES = { steps: 'train.csv', timings: 'train.timings.csv', heldOut: 'held-out.csv' } as const;
type Tables = Readonly<Record<keyof typeof TABLES, GrowingTable>>;

export interface LiveRun extends Tables {
  /** Unique among the runs shown, and as short as that allows. */
  readonly name: string;
}

const NAMES: readonly string[] = Object.values(TABLES);

export class LiveRuns {
  private readonly known = new Map<string, Tables>();
  private changes = 0;
  private found: LiveRun[] = [];
  private state = '';
  private problem: string[] = [];

  /** @param directories each searched with those below it */
  constructor(readonly directories: readonly string[]) {}

  get runs(): readonly LiveRun[] {
    return this.found;
  }

  /** Another number whenever a run has other rows. */
  get version(): number {
    return this.changes;
  }

  /** Another text whenever there are other files. */
  get tables(): string {
    return this.state;
  }

  /** What could not be read, a line each. */
  get problems(): readonly string[] {
    return this.problem;
  }

  /** Looks at all directories again. */
  refresh(): void {
    const before = JSON.stringify([this.state, this.problem]);
    this.problem = [];
    const found = this.directories.map((directory) => ({ directory, files: this.filesOf(directory) }));
    const paths = found.flatMap(({ directory, files }) => files.map((path) => join(directory, path)));
    const places = unique(paths.filter((path) => NAMES.includes(basename(path))).map(dirname));
    const names = shortNames(places);
    const inside = new Set(paths);
    this.found = places.map((place, index) => {
      const run = this.known.get(place) ?? openTables(place);
      this.known.set(place, run);
      return { name: names[index] ?? place, ...run };
    });
    const looks = this.found.flatMap(({ steps, timings, heldOut }) =>
      [steps, timings, heldOut].map((table) => this.look(table, inside)),
    );
    this.state = JSON.stringify(found);
    if (looks.includes(true) || JSON.stringify([this.state, this.problem]) !== before) this.changes += 1;
  }

  /** @param inside the files that may be read */
  private look(table: GrowingTable, inside: ReadonlySet<string>): boolean {
    try {
      return inside.has(table.path) ? table.refresh() : table.forget();
    } catch (error) {
      if (!(error instanceof YocoError)) throw error;
      this.problem.push(error.message);
      return false;
    }
  }

  private filesOf(directory: string): readonly string[] {
    try {
      const { files, refused } = shownFiles(directory);
      this.problem.push(...refused);
      return files;
    } catch (error) {
      // A directory may be deleted while it is shown.
      const { code } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      this.problem.push(`cannot read ${directory}: ${code}`);
      return [];
    }
  }
}

const unique = (texts: readonly string[]): string[] => [...new Set(texts)];

const openTables = (place: string): Tables => ({
  steps: new GrowingTable(join(place, TABLES.steps)),
  timings: new GrowingTable(join(place, TABLES.timings)),
  heldOut: new GrowingTable(join(place, TABLES.heldOut)),
});

/** Paths without the directories that all of them begin with; the last name stays. */
export function shortNames(paths: readonly string[]): string[] {
  const parts = paths.map((path) => path.split(/[/\\]+/).filter((part) => part !== ''));
  const shortest = parts.length === 0 ? 0 : Math.min(...parts.map(({ length }) => length)) - 1;
  let shared = 0;
  while (shared < shortest && parts.every((part) => part[shared] === parts[0]?.[shared])) shared += 1;
  return parts.map((part) => part.slice(shared).join('/'));
}
