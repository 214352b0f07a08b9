/** NAME.run.json: what the run of a table was, and what the runs were whose rows it still holds. */
import { existsSync } from 'node:fs';
import * as v from 'valibot';
import { UsageError } from '../errors.js';
import { readJsonAs } from '../files/json.js';
import { writeFileAtomic } from '../files/write.js';
import type { Provenance } from './provenance.js';

const Run = v.looseObject({ command: v.array(v.string()) });
const Description = v.looseObject({ ...Run.entries, earlier: v.optional(v.array(Run)) });
const text = v.optional(v.string());
const Typed = v.looseObject({
  engine: v.nullish(v.looseObject({ cacheType: text, compute: text })),
  flags: v.optional(v.looseObject({ 'kv-dtype': text, compute: text, dtype: text })),
});
type Typed = v.InferOutput<typeof Typed>;

/** In what computed figures assume tensors are stored where nothing is said. */
const ANALYTIC_STORAGE = 'bfloat16';

/**
 * In what a run kept or computed other than it stored its tensors: `K/V in int4, products in float8`; empty for nothing. Figures of
 * different types are never of one table, and not to be compared as if they were.
 */
function typesOf({ engine, flags = {} }: Typed): string {
  const { 'kv-dtype': asked, dtype = ANALYTIC_STORAGE } = flags;
  // Without an engine, figures are of what was asked for.
  const { cacheType, compute } = engine ?? { ...flags, cacheType: asked === dtype ? undefined : asked };
  return [cacheType && `K/V in ${cacheType}`, compute && `products in ${compute}`].filter(Boolean).join(', ');
}

/** The same of the run that a file describes; empty where there is none. @throws RunError where it is no such file */
export const typesOfRun = (path: string): string =>
  existsSync(path) ? typesOf(readJsonAs(path, Typed)) : '';

export class RunFile {
  /** Descriptions of the runs before, the oldest first: one for each command line. */
  private earlier: object[] = [];

  constructor(private readonly path: string) {}

  /** @throws UsageError where the file is of a run of other types than `run` */
  requireSameTypes(run: Provenance): void {
    if (!existsSync(this.path)) return;
    const [before, now] = [typesOfRun(this.path), typesOf(v.parse(Typed, run))];
    if (before === now) return;
    const named = (types: string): string => (types === '' ? 'without other types' : `with ${types}`);
    throw new UsageError(
      `${this.path} is of a run ${named(before)}, this one is ${named(now)}: name another --out, or start over with --no-resume`,
    );
  }

  /** Keeps what the file says of earlier runs. @throws RunError where it is no such file */
  keepEarlier(command: readonly string[]): void {
    if (!existsSync(this.path)) return;
    const { earlier = [], ...last } = readJsonAs(this.path, Description);
    const runs = new Map([...earlier, last].map((run) => [JSON.stringify(run.command), run]));
    runs.delete(JSON.stringify(command));
    this.earlier = [...runs.values()];
  }

  write(description: object): void {
    const earlier = this.earlier.length === 0 ? {} : { earlier: this.earlier };
    writeFileAtomic(this.path, `${JSON.stringify({ ...description, ...earlier }, null, 2)}\n`);
  }
}
