/** Opens the typed table of a sweep: in files, with the cells an earlier run has finished, or in memory. */
import type { Communicator } from '../distributed/communicator.js';
import type { Engine } from '../engines/engine.js';
import type { Json } from '../results/canonical.js';
import { collectProvenance } from '../results/provenance.js';
import { CellTable, MemoryRows, rowOf, type TableCell, type TableSchema } from '../results/typed.js';
import type { DerivedTable } from '../results/derived.js';
import type { Row } from '../results/schema.js';
import { ResultWriter } from '../results/writer.js';
import type { ModelKey } from './model-key.js';
import { modelSettings } from './models.js';
import { planOf, type SweepPart } from './sweep.js';

/** What asked for a run, for its record: a command line, as a rule. */
export interface RunRecord {
  /** As typed: `['needle', '--ctx', '4k']`. */
  readonly command: readonly string[];
  /** The settings it was parsed into. */
  readonly flags: Readonly<Record<string, unknown>>;
}

/** Where the tables of a run are written. */
export interface TableOutput {
  readonly directory: string;
  /** Keep the finished cells of an earlier run in the directory (default true). */
  readonly resume?: boolean;
  readonly record?: RunRecord;
}

/** What a profile comes to. */
export interface Profile<Key extends object, Figures extends object> {
  /** In the order of the plan. */
  readonly cells: readonly TableCell<Key, Figures>[];
  /** Tables computed from the cells: ratios of the architectures, fits. */
  readonly derived: readonly DerivedTable[];
  /** The files written; absent without an output. */
  readonly writer?: ResultWriter;
}

export interface TablePlan<Key extends ModelKey, Figures extends object> {
  readonly schema: TableSchema<Key, Figures>;
  readonly parts: readonly SweepPart<Key>[];
  readonly engine?: Engine;
  /** The ranks over which models divide sequences; default: none. */
  readonly communicator?: Communicator;
  readonly seed: number;
  /** What determines the cells beside model, engine and key. */
  readonly settings: Readonly<Record<string, Json>>;
  readonly output?: TableOutput;
}

export interface OpenTable<Key extends object, Figures extends object> {
  readonly table: CellTable<Key, Figures>;
  readonly writer?: ResultWriter;
}

export function openTable<Key extends ModelKey, Figures extends object>(
  plan: TablePlan<Key, Figures>,
): OpenTable<Key, Figures> {
  const { schema, parts, output } = plan;
  const keys = planOf(parts).map((key) => rowOf(schema, key));
  if (output === undefined) return { table: new CellTable(schema, new MemoryRows(schema, keys)) };
  const writer = openWriter(plan, output, keys);
  return { table: new CellTable(schema, writer), writer };
}

function openWriter<Key extends ModelKey, Figures extends object>(
  { schema, parts, engine, communicator, seed, settings }: TablePlan<Key, Figures>,
  { directory, resume = true, record = { command: [], flags: {} } }: TableOutput,
  plan: readonly Row[],
): ResultWriter {
  const provenance = collectProvenance({
    ...record,
    engine,
    communicator,
    configuration: parts.map(({ choice }) => ({ name: choice.name, ...choice.config })),
  });
  const { cpu, cores } = provenance.machine;
  const computer = engine ? { engine: provenance.engine, cpu, cores } : null;
  return ResultWriter.open(directory, schema, {
    provenance,
    resume,
    plan,
    settings: settingsByKey(parts, seed, { ...settings, computer, ...divisionOf(communicator) }),
  });
}

/** One process goes without saying. */
function divisionOf(communicator: Communicator | undefined): Readonly<Record<string, Json>> {
  return communicator === undefined || communicator.size === 1 ? {} : { ranks: communicator.size };
}

/** What determines the cells of each model, found by the row of a key. */
function settingsByKey<Key extends ModelKey>(
  parts: readonly SweepPart<Key>[],
  seed: number,
  common: Json,
): (row: Row) => Json {
  const models = new Map(
    parts.flatMap(({ choice, keys }) => {
      const settings = { model: modelSettings(choice, seed), common };
      return keys.map(({ model, architecture, selfDecoder }): [string, Json] => [
        JSON.stringify([model, architecture, selfDecoder]),
        settings,
      ]);
    }),
  );
  return ({ model, architecture, self_decoder: selfDecoder }) =>
    models.get(JSON.stringify([model, architecture, selfDecoder ?? null])) ?? null;
}
