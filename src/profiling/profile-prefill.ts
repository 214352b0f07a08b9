/** Prefill time against context, for several models. */
import { SOLO, type Communicator } from '../distributed/communicator.js';
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import type { ModelConfig } from '../model/config.js';
import { formatTokenCount } from '../results/display.js';
import { rowOf, type CellTable } from '../results/typed.js';
import { besideWeights, ELEMENT_BYTES, requireMemory } from '../sweep/memory-budget.js';
import { modelKey, modelLabel, type ModelChoice } from '../sweep/model-key.js';
import { ProductRate } from '../sweep/product-rate.js';
import { sweepModels, type OpenModel, type SweepProgress } from '../sweep/sweep.js';
import { openTable, type Profile, type TableOutput } from '../sweep/table.js';
import { findChunkSize, SMALLEST_CHUNK } from './chunk-size.js';
import { growthTable } from './growth.js';
import { measurePrefill, prefillTokens, type PrefillFigures, type PrefillKey } from './prefill.js';
import { ratioTable } from './ratios.js';
import { engineOfRanks, RankTable } from './ranks.js';
import { PREFILL_RATIOS, PREFILL_SCHEMA } from './tables.js';

export interface ProfilePrefillOptions {
  readonly models: readonly ModelChoice[];
  /** Tokens. */
  readonly contexts: readonly number[];
  readonly engine: Engine;
  /** The ranks over which the models divide sequences; default: none. */
  readonly communicator?: Communicator;
  /** With the early exit, without it, or both; default both. */
  readonly earlyExit?: readonly boolean[];
  /** Tokens prefilled at a time; `auto` (default) measures which size is fastest. */
  readonly chunkSize?: number | 'auto';
  /** Runs that are not counted, of two chunks at most; default 1. */
  readonly warmUp?: number;
  /** Runs that are counted; default 5. */
  readonly repetitions?: number;
  /** Time only so many chunks, from the first to the last, and interpolate the others. */
  readonly sampleChunks?: number;
  readonly seed?: number;
  readonly output?: TableOutput;
  readonly onProgress?: (progress: SweepProgress<PrefillKey>) => void;
  /** Tells the chunk size that was found to be fastest for a model. */
  readonly onChunkSize?: (choice: ModelChoice, tokens: number) => void;
}

/** What is measured of one device. */
const OF_DEVICE = ['productFlopsPerSecond', 'productShare', 'peakBytes', 'peakResidentBytes'] as const;

type Settings = ReturnType<typeof withDefaults>;

const withDefaults = ({ communicator = SOLO, ...options }: ProfilePrefillOptions) => ({
  ...options,
  communicator,
  engine: engineOfRanks(options.engine, communicator),
  earlyExit: options.earlyExit ?? [true, false],
  chunkSize: options.chunkSize ?? 'auto',
  warmUp: options.warmUp ?? 1,
  repetitions: options.repetitions ?? 5,
  seed: options.seed ?? 1,
});

/** Times the prefill of random prompts. A context that does not fit in memory is a failed cell; the others are measured. */
export async function profilePrefill(
  options: ProfilePrefillOptions,
): Promise<Profile<PrefillKey, PrefillFigures>> {
  const settings = withDefaults(options);
  const { engine, communicator, seed, chunkSize, warmUp, repetitions, sampleChunks } = settings;
  const parts = settings.models.map((choice) => ({ choice, keys: keysOf(choice, settings) }));
  const { table, writer } = openTable<PrefillKey, PrefillFigures>({
    schema: PREFILL_SCHEMA,
    parts,
    engine,
    communicator,
    seed,
    output: settings.output,
    settings: { chunk: chunkSize, warmup: warmUp, repetitions, samples: sampleChunks ?? null },
  });
  const chunks = new ChunkSizes(settings);
  const devices = new RankTable(PREFILL_SCHEMA, OF_DEVICE, engine.device, communicator);
  const ranks = communicator.size;
  const work = { seed, warmUp, repetitions, samples: sampleChunks };
  let product: ProductRate | undefined;
  try {
    await sweepModels<PrefillKey, PrefillFigures>({
      ...{ parts, engine, communicator, seed, table },
      onProgress: settings.onProgress,
      unitsOf: ({ context }) =>
        prefillTokens({
          ...{ context, warmUp, repetitions },
          chunkSize: typeof chunkSize === 'number' ? chunkSize : 1024,
        }),
      measure: async (open, key, onProgress) => {
        const known = sameWithoutExit(table, open.choice.config, key);
        if (known) return known;
        const { context, earlyExit } = key;
        requirePrefill(open, settings, context, typeof chunkSize === 'number' ? chunkSize : SMALLEST_CHUNK);
        // Each rank by itself: a search that waits for the others would have to try the same sizes.
        product ??= await ProductRate.choose(options.engine);
        const size = await chunks.of(open);
        requirePrefill(open, settings, context, size);
        const cell = { ...work, context, earlyExit, chunkSize: size, product, ranks, onProgress };
        const figures = await measurePrefill(open.model, engine, cell);
        if (ranks === 1) return figures;
        const all = devices.together(key, figures);
        // The largest share may be another device's than the largest rate.
        return { ...all, productShare: all.flopsPerSecond / (ranks * all.productFlopsPerSecond) };
      },
    });
  } finally {
    writer?.close();
  }
  const { cells } = table;
  const rows = cells.map((cell) => rowOf(PREFILL_SCHEMA, cell));
  const ratios = ratioTable(PREFILL_SCHEMA, rows, PREFILL_RATIOS);
  return { cells, writer, derived: [growthTable(cells), ratios, ...devices.tables] };
}

const keysOf = (choice: ModelChoice, { earlyExit, contexts }: Settings): PrefillKey[] =>
  earlyExit.flatMap((exit) => contexts.map((context) => ({ ...modelKey(choice), earlyExit: exit, context })));

/** Where the layout has nothing to leave out, both settings of the early exit are one measurement: the figures of the other. */
function sameWithoutExit(
  table: CellTable<PrefillKey, PrefillFigures>,
  config: ModelConfig,
  key: PrefillKey,
): PrefillFigures | undefined {
  const formulas = costs(config);
  const flops = (earlyExit: boolean): number => formulas.prefillFlops(key.context, { earlyExit });
  if (flops(true) !== flops(false)) return undefined;
  return table.figures({ ...key, earlyExit: !key.earlyExit });
}

function requirePrefill(
  { choice }: OpenModel,
  { engine, communicator: { size: ranks } }: Pick<Settings, 'engine' | 'communicator'>,
  context: number,
  chunk: number,
): void {
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const need = costs(choice.config).inferenceMemory({ context, chunk, bytesPerElement, ranks });
  requireMemory(engine, besideWeights(need), `context ${formatTokenCount(context)} of ${modelLabel(choice)}`);
}

/** The chunk size of each model: as told, or found once by measurement. */
class ChunkSizes {
  private readonly found = new Map<OpenModel, number>();

  constructor(private readonly settings: Settings) {}

  async of(open: OpenModel): Promise<number> {
    const { chunkSize, contexts, seed, engine, communicator, onChunkSize } = this.settings;
    if (chunkSize !== 'auto') return chunkSize;
    const known = this.found.get(open);
    if (known !== undefined) return known;
    const search = { longest: Math.max(...contexts), seed, communicator };
    const size = await findChunkSize(open.model, engine, search);
    this.found.set(open, size);
    onChunkSize?.(open.choice, size);
    return size;
  }
}
