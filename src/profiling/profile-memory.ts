/** Memory of inference against context, for several models: computed, and measured where it fits. */
import { SOLO, type Communicator } from '../distributed/communicator.js';
import { type Engine, type StorageType, weightTypeOf } from '../engines/engine.js';
import { undividedKeys } from '../model/index.js';
import type { CacheType, ComputeType } from '../ops/index.js';
import type { CellTable } from '../results/typed.js';
import { ELEMENT_BYTES } from '../sweep/memory-budget.js';
import { modelKey, type ModelChoice } from '../sweep/model-key.js';
import { planOf, sweepModels, type SweepPart, type SweepProgress } from '../sweep/sweep.js';
import { openTable, type Profile, type TableOutput } from '../sweep/table.js';
import { breakdownTable } from './breakdown.js';
import {
  computedMemory,
  measureMemory,
  NOT_MEASURED,
  type MeasuredMemory,
  type MemoryAssumptions,
  type MemoryFigures,
  type MemoryKey,
} from './memory.js';
import { ratioTable } from './ratios.js';
import { engineOfRanks, RankTable } from './ranks.js';
import { MEMORY_RATIOS, MEMORY_SCHEMA } from './tables.js';
import { rowOf } from '../results/typed.js';

/** A context that is computed only, since it does not fit in memory: the first of a model. */
export interface NotMeasured {
  readonly choice: ModelChoice;
  readonly context: number;
  readonly neededBytes: number;
  readonly availableBytes: number;
}

export interface ProfileMemoryOptions {
  readonly models: readonly ModelChoice[];
  /** Tokens. */
  readonly contexts: readonly number[];
  /** What measures; without one everything is computed only. */
  readonly engine?: Engine;
  /** The ranks of the engine, over which the models divide sequences; default: none. */
  readonly communicator?: Communicator;
  /** Devices that divide each sequence in computed figures, which are of one of them; default: the ranks of the engine. */
  readonly contextParallel?: number;
  /** Stored elements that computed figures assume; default the engine's, without one bfloat16. */
  readonly storage?: StorageType;
  /** Tokens prefilled at a time; default 8192. */
  readonly chunkSize?: number;
  /** How computed figures assume keys and values are stored; null: as the rest. Default the engine's; only without an engine. */
  readonly cacheType?: CacheType | null;
  /** What computed figures assume weights are stored for, a byte an element; null: nothing else. Default the engine's; only without an engine. */
  readonly compute?: ComputeType | null;
  /** Count the logits of a whole chunk where the official code computes them; computed only, so without an engine. */
  readonly chunkLogits?: boolean;
  /** The longest context that is also measured; default 16384. */
  readonly measureUpTo?: number;
  /** Compute only the last chunk of each context, after random keys and values: the memory is the same. */
  readonly fillCache?: boolean;
  readonly seed?: number;
  readonly output?: TableOutput;
  readonly onProgress?: (progress: SweepProgress<MemoryKey>) => void;
  readonly onNotMeasured?: (context: NotMeasured) => void;
}

type Table = CellTable<MemoryKey, MemoryFigures>;

/** What is measured of one device. */
const OF_DEVICE = Object.keys(NOT_MEASURED) as (keyof MeasuredMemory)[];

/** Computes every context of every model, and measures those that are short enough and fit in memory. */
export async function profileMemory(
  options: ProfileMemoryOptions,
): Promise<Profile<MemoryKey, MemoryFigures>> {
  const { models, contexts, output, communicator = SOLO } = options;
  const engine = options.engine && engineOfRanks(options.engine, communicator);
  const { chunkSize = 8192, measureUpTo = 16384, fillCache = false, seed = 1 } = options;
  const parts = models.map((choice) => ({
    choice,
    keys: contexts.map((context): MemoryKey => ({ ...modelKey(choice), context })),
  }));
  const storage = engine?.storage ?? options.storage ?? 'bfloat16';
  const { cacheType = engine?.cacheType ?? null, chunkLogits, contextParallel: devices } = options;
  const weightType = engine ? weightTypeOf(engine) : (options.compute ?? null);
  const ranks = devices ?? communicator.size;
  const { cacheType: asked, compute } = options;
  if (engine && (asked !== undefined || compute !== undefined || chunkLogits)) {
    throw new RangeError('cacheType, compute and chunkLogits are for computed memory: leave the engine out');
  }
  if (cacheType !== null && ranks > 1) throw undividedKeys();
  const assumptions: MemoryAssumptions = {
    ...{ bytesPerElement: ELEMENT_BYTES[storage], chunkSize, cacheType },
    ...(weightType !== null && { weightType }),
    ...(chunkLogits && { chunkLogits }),
    ...(ranks > 1 && { ranks }),
  };
  const measured = engine ? measurableParts(parts, engine, measureUpTo, assumptions, options) : [];
  const { table, writer } = openTable<MemoryKey, MemoryFigures>({
    schema: MEMORY_SCHEMA,
    parts,
    engine,
    communicator,
    seed,
    output,
    settings: {
      assumptions: { ...assumptions },
      fill: fillCache,
      measured: measured.map(({ keys }) => keys.map(({ context }) => context)),
    },
  });
  const devicesOf = new RankTable(MEMORY_SCHEMA, OF_DEVICE, engine?.device ?? '', communicator);
  try {
    appendComputed(table, parts, measured, assumptions);
    if (engine) {
      await sweepModels<MemoryKey, MemoryFigures>({
        ...{ parts: measured, engine, communicator, seed, table },
        onProgress: options.onProgress,
        unitsOf: ({ context }) => context,
        measure: async (open, key, onTokens) => {
          const work = { context: key.context, chunkSize, seed, fill: fillCache, onProgress: onTokens };
          return devicesOf.together(key, {
            ...computedMemory(open.choice.config, key.context, assumptions),
            ...(await measureMemory(open, engine, work)),
          });
        },
      });
    }
  } finally {
    writer?.close();
  }
  const { cells } = table;
  const rows = cells.map((cell) => rowOf(MEMORY_SCHEMA, cell));
  const derived = [
    breakdownTable(cells),
    ratioTable(MEMORY_SCHEMA, rows, MEMORY_RATIOS),
    ...devicesOf.tables,
  ];
  return { cells, writer, derived };
}

/** The cells short enough to be measured; what does not fit in memory is reported before the work starts. */
function measurableParts(
  parts: readonly SweepPart<MemoryKey>[],
  engine: Engine,
  measureUpTo: number,
  assumptions: MemoryAssumptions,
  { onNotMeasured }: ProfileMemoryOptions,
): SweepPart<MemoryKey>[] {
  const availableBytes = engine.availableBytes();
  return parts.map(({ choice, keys }) => {
    const asked = keys.filter(({ context }) => context <= measureUpTo);
    const need = ({ context }: MemoryKey): number =>
      computedMemory(choice.config, context, assumptions).totalBytes;
    const fitting = asked.filter((key) => need(key) <= availableBytes);
    const [refused] = asked.filter((key) => !fitting.includes(key));
    if (refused) {
      onNotMeasured?.({ choice, context: refused.context, neededBytes: need(refused), availableBytes });
    }
    return { choice, keys: fitting };
  });
}

function appendComputed(
  table: Table,
  parts: readonly SweepPart<MemoryKey>[],
  measured: readonly SweepPart<MemoryKey>[],
  assumptions: MemoryAssumptions,
): void {
  const toMeasure = new Set(planOf(measured));
  for (const { choice, keys } of parts) {
    for (const key of keys) {
      if (toMeasure.has(key) || table.has(key)) continue;
      table.append({ ...key, ...computedMemory(choice.config, key.context, assumptions), ...NOT_MEASURED });
    }
  }
}
