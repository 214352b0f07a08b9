/** NAME.run.json: what the run of a table was, and what the runs were whose rows it still holds. */
import { existsSync } from 'node:fs';
import * as v from 'valibot';
import { UsageError } from '../errors.js';
import { readJsonAs } from '../files/json.js';
import { writeFileAtomic } from '../files/write.js';

const Run = v.looseObject({ command: v.array(v.string()) });
const Description = v.looseObject({ ...Run.entries, earlier: v.optional(v.array(Run)) });
const Computed = v.looseObject({
  engine: v.optional(v.nullable(v.looseObject({ compute: v.optional(v.string()) }))),
});

export class RunFile {
  /** Descriptions of the runs before, the oldest first: one for each command line. */
  private earlier: object[] = [];

  constructor(private readonly path: string) {}

  /**
   * Figures of models that compute in float8 and of those that do not are never of one table.
   * @throws UsageError where the file is of such another run
   */
  requireSameCompute(engine: { readonly compute?: string } | null): void {
    if (engine === null || !existsSync(this.path)) return;
    const { engine: earlier = null } = readJsonAs(this.path, Computed);
    if (earlier === null || earlier.compute === engine.compute) return;
    const inWhat = ({ compute }: { readonly compute?: string }): string =>
      compute === undefined ? 'without --compute' : `with --compute ${compute}`;
    throw new UsageError(
      `${this.path} is of a run ${inWhat(earlier)}, this one is ${inWhat(engine)}: name another --out, or start over with --no-resume`,
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
