/** `compareTraining`: directories of training runs in; tables of runs, architectures and scaling out. */
import { RunError } from '../../errors.js';
import type { DerivedTable } from '../../results/derived.js';
import { writeDerived } from '../../results/derived.js';
import { collectProvenance } from '../../results/provenance.js';
import { CellTable } from '../../results/typed.js';
import { ResultWriter } from '../../results/writer.js';
import type { TableOutput } from '../../sweep/table.js';
import { chooseRecipes } from './choose-recipes.js';
import { comparisonTable } from './comparison-table.js';
import { findRuns } from './find-runs.js';
import { readRun } from './read-run.js';
import { runRows, RUNS_SCHEMA, type RunFigures, type RunKey, type RunRow } from './runs-table.js';
import { scalingTable } from './scaling-table.js';

export interface CompareTrainingOptions {
  /** Searched for runs, with what is below them. */
  readonly directories: readonly string[];
  /** Measured operations per second of large matrix products, of which `mfu` is a share. */
  readonly matmulFlops?: number;
  readonly output: TableOutput;
}

export interface TrainingComparison {
  readonly runs: readonly RunRow[];
  readonly comparison: DerivedTable;
  readonly scaling: DerivedTable;
  /** Runs that are not finished or cannot be read, and why; rows of the table of runs too. */
  readonly leftOut: readonly { readonly run: string; readonly reason: string }[];
  /** The CSV files written. */
  readonly files: readonly string[];
}

/**
 * Writes runs.csv, comparison.csv and scaling.csv, in place of earlier ones.
 * @throws UsageError for directories that do not exist or names that two runs share
 * @throws RunError where there is no finished run
 */
export function compareTraining(options: CompareTrainingOptions): TrainingComparison {
  const { directories, matmulFlops = null, output } = options;
  const places = findRuns(directories);
  const runs: RunRow[] = [];
  const failures: { run: string; error: RunError }[] = [];
  for (const place of places) {
    try {
      runs.push(...runRows(readRun(place), matmulFlops));
    } catch (error) {
      if (!(error instanceof RunError)) throw error;
      failures.push({ run: place.name, error });
    }
  }
  const [first] = failures;
  if (runs.length === 0 && first !== undefined) {
    throw new RunError(`none of ${places.length} runs is finished: ${first.run}: ${first.error.message}`);
  }
  const choices = chooseRecipes(runs);
  const [comparison, scaling] = [comparisonTable(choices), scalingTable(choices)];
  return {
    ...{ runs, comparison, scaling },
    leftOut: failures.map(({ run, error }) => ({ run, reason: error.message })),
    files: [
      ...writeRuns(output, runs, failures),
      ...[comparison, scaling].flatMap((table) => writeDerived(output.directory, table)),
    ],
  };
}

function writeRuns(
  { directory, record = { command: [], flags: {} } }: TableOutput,
  runs: readonly RunRow[],
  failures: readonly { readonly run: string; readonly error: RunError }[],
): string[] {
  const writer = ResultWriter.open(directory, RUNS_SCHEMA, {
    settings: {},
    provenance: collectProvenance(record),
    // Everything is read anew: a run may have gone on.
    resume: false,
  });
  try {
    const table = new CellTable<RunKey, RunFigures>(RUNS_SCHEMA, writer);
    for (const run of runs) table.append(run);
    for (const { run, error } of failures) table.fail({ run, source: null }, error);
    return writer.files;
  } finally {
    writer.close();
  }
}
