/** What the profiling commands have in common: models, engine, table, provenance, progress. */
import type { RunContext } from './run-context.js';
import { modelKey, modelLabel, type ModelChoice } from './models.js';
import { formatTokenCount } from '../results/display.js';
import type { Engine } from '../engines/engine.js';
import type { EngineFlags } from '../engines/start.js';
import type { Json } from '../results/canonical.js';
import { collectProvenance } from '../results/provenance.js';
import type { Row, Schema } from '../results/schema.js';
import { ResultWriter } from '../results/writer.js';
import { planOf, settingsByKey, sweepModels, type LoadedModel, type SweepPart } from './sweep.js';

/** The parsed flags all of them have. */
export interface ProfileFlags extends EngineFlags {
  models: readonly ModelChoice[];
  ctx: readonly number[];
  seed: number;
  resume: boolean;
}

export interface ProfilePlan {
  schema: Schema;
  parts: readonly SweepPart[];
  engine: Engine | null;
  /** What determines the cells beside model, engine and key. */
  settings: Readonly<Record<string, Json>>;
}

/** The cells of each model: its key with each of `cells`, in order. */
export function planParts(flags: ProfileFlags, cells: readonly Row[]): SweepPart[] {
  return flags.models.map((choice) => ({
    choice,
    keys: cells.map((cell) => ({ ...modelKey(choice), ...cell })),
  }));
}

/** Opens the table of a plan, with the cells an earlier run has finished. */
export function openTable(context: RunContext, flags: ProfileFlags, plan: ProfilePlan): ResultWriter {
  const { schema, parts, engine, settings } = plan;
  const provenance = collectProvenance({
    command: context.command,
    flags: context.flags,
    ...(engine ? { engine } : {}),
    configuration: parts.map(({ choice }) => ({ name: choice.name, ...choice.config })),
  });
  const { cpu, cores } = provenance.machine;
  const computer = engine ? { engine: provenance.engine, cpu, cores } : null;
  return ResultWriter.open(context.directory, schema, {
    provenance,
    resume: flags.resume,
    plan: planOf(parts),
    settings: settingsByKey(parts, flags.seed, { ...settings, computer }),
  });
}

/** Measures the cells that are not known yet, with a progress bar over the tokens of all cells. */
export async function runSweep(
  context: RunContext,
  flags: ProfileFlags,
  {
    parts,
    engine,
    writer,
    tokensOf,
    measure,
  }: {
    parts: readonly SweepPart[];
    engine: Engine;
    writer: ResultWriter;
    /** Tokens a cell is going to consume: what the bar counts. */
    tokensOf: (key: Row) => number;
    /** @param onProgress to be called with the tokens of the cell consumed so far */
    measure: (loaded: LoadedModel, key: Row, onProgress: (tokens: number) => void) => Promise<Row>;
  },
): Promise<void> {
  const missing = planOf(parts).filter((key) => !writer.has(key));
  const total = missing.reduce((sum, key) => sum + tokensOf(key), 0);
  const progress = context.progress({ label: writer.schema.name, total, unit: 'tokens' });
  let done = 0;
  try {
    await sweepModels({
      parts,
      engine,
      seed: flags.seed,
      writer,
      measure: async (loaded, key) => {
        progress.note(`${modelLabel(loaded.choice)}, context ${formatTokenCount(Number(key.context))}`);
        return measure(loaded, key, (tokens) => {
          progress.update(done + tokens);
        });
      },
      onCell: (_choice, key) => {
        if (!missing.includes(key)) return;
        done += tokensOf(key);
        progress.update(done);
      },
    });
  } finally {
    progress.stop();
  }
}
