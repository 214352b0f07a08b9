/** Decoding rate against context, for several models. */
import { SOLO, type Communicator } from '../distributed/communicator.js';
import type { Engine } from '../engines/engine.js';
import { formatTokenCount } from '../results/display.js';
import { rowOf } from '../results/typed.js';
import { ELEMENT_BYTES, requireMemory } from '../sweep/memory-budget.js';
import { modelKey, modelLabel, type ModelChoice } from '../sweep/model-key.js';
import { sweepModels, type OpenModel, type SweepProgress } from '../sweep/sweep.js';
import { openTable, type Profile, type TableOutput } from '../sweep/table.js';
import { copyRate } from './copy-rate.js';
import { ratioTable } from './ratios.js';
import { engineOfRanks, RankTable } from './ranks.js';
import { THROUGHPUT_RATIOS, THROUGHPUT_SCHEMA } from './tables.js';
import {
  bytesOfContext,
  GrowingContext,
  measureDecoding,
  type ContextOptions,
  type ThroughputFigures,
  type ThroughputKey,
} from './throughput.js';

export interface ProfileThroughputOptions {
  readonly models: readonly ModelChoice[];
  /** Tokens, measured in ascending order. */
  readonly contexts: readonly number[];
  readonly engine: Engine;
  /** The ranks over which the models divide sequences; default: none. */
  readonly communicator?: Communicator;
  /** Tokens decoded and timed one by one; default 32. */
  readonly tokens?: number;
  /** Tokens decoded before; default 4. */
  readonly warmUp?: number;
  /** Compute only the last chunk of each context, after random keys and values: the time of a step is the same. */
  readonly fillCache?: boolean;
  readonly seed?: number;
  readonly output?: TableOutput;
  readonly onProgress?: (progress: SweepProgress<ThroughputKey>) => void;
}

/** What is measured of one device. */
const OF_DEVICE = ['bytesPerSecond', 'copyBytesPerSecond', 'copyShare'] as const;

/** Times greedy decoding after random prompts. A context that does not fit in memory is a failed cell. */
export async function profileThroughput(
  options: ProfileThroughputOptions,
): Promise<Profile<ThroughputKey, ThroughputFigures>> {
  const { models, output, onProgress, communicator = SOLO } = options;
  const engine = engineOfRanks(options.engine, communicator);
  const ranks = communicator.size;
  const { tokens = 32, warmUp = 4, fillCache: fill = false, seed = 1 } = options;
  const contexts = [...options.contexts].sort((a, b) => a - b);
  const parts = models.map((choice) => ({
    choice,
    keys: contexts.map((context): ThroughputKey => ({ ...modelKey(choice), context })),
  }));
  const settings = { tokens, warmup: warmUp, fill };
  const schema = THROUGHPUT_SCHEMA;
  const { table, writer } = openTable<ThroughputKey, ThroughputFigures>({
    schema,
    ...{ parts, engine, communicator, seed },
    settings,
    output,
  });
  const prompts = new Prompts(engine, contexts, { decoded: tokens + warmUp, seed, fill, ranks });
  const devices = new RankTable(schema, OF_DEVICE, engine.device, communicator);
  let rate: number | undefined;
  try {
    await sweepModels<ThroughputKey, ThroughputFigures>({
      ...{ parts, engine, communicator, seed, table },
      onProgress,
      unitsOf: ({ context }) => context,
      measure: async (open, key, onTokens) => {
        const { context } = key;
        const prompt = prompts.of(open, context);
        try {
          rate ??= await copyRate(engine);
          const cache = prompt.reach(context, onTokens);
          const work = { warmUp, tokens, copyRate: rate, ranks };
          const figures = await measureDecoding(open.model, engine, cache, work);
          cache.dispose();
          const all = devices.together(key, { ...figures, prefilledTokens: prompt.prefilledTokens });
          // The largest share may be another device's than the largest rate.
          return { ...all, copyShare: all.bytesPerSecond / all.copyBytesPerSecond };
        } catch (error) {
          // Some layers may have taken tokens that others have not: a longer context begins again.
          prompts.dispose();
          throw error;
        }
      },
    });
  } finally {
    prompts.dispose();
    writer?.close();
  }
  const { cells } = table;
  const rows = cells.map((cell) => rowOf(schema, cell));
  return { cells, writer, derived: [ratioTable(schema, rows, THROUGHPUT_RATIOS), ...devices.tables] };
}

/** The growing prompt of the model at work; the one before is released. */
class Prompts {
  private owner: OpenModel | undefined;
  private prompt: GrowingContext | undefined;

  constructor(
    private readonly engine: Engine,
    private readonly contexts: readonly number[],
    private readonly options: Omit<ContextOptions, 'longest'>,
  ) {}

  /** @throws RunError where the context does not fit in memory, before anything is computed for it */
  of(open: OpenModel, context: number): GrowingContext {
    const what = `context ${formatTokenCount(context)} of ${modelLabel(open.choice)}`;
    const elementBytes = ELEMENT_BYTES[this.engine.storage];
    if (this.prompt && this.owner === open) {
      requireMemory(this.engine, this.prompt.bytesToReach(context, elementBytes), what);
      return this.prompt;
    }
    this.dispose();
    const { ranks } = this.options;
    const need = (count: number): number => bytesOfContext(open.model.config, count, elementBytes, ranks);
    requireMemory(this.engine, need(context), what);
    this.owner = open;
    // A context that does not fit must not cost the time to draw its prompt.
    const available = this.engine.availableBytes();
    const fitting = this.contexts.filter((count) => need(count) <= available);
    const longest = Math.max(context, ...fitting);
    return (this.prompt = new GrowingContext(open.model, { ...this.options, longest }));
  }

  dispose(): void {
    this.prompt?.dispose();
    this.prompt = undefined;
  }
}
