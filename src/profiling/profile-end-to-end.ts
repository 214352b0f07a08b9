/** Throughput of prefill and generation together, for several models, at one sequence or as many as fit in memory. */
import type { Engine } from '../engines/engine.js';
import { OutOfMemoryError, RunError, UsageError } from '../errors.js';
import { formatBytes, formatTokenCount } from '../results/display.js';
import { rowOf } from '../results/typed.js';
import { runCell } from '../sweep/cell.js';
import { ELEMENT_BYTES, requireMemory } from '../sweep/memory-budget.js';
import { modelKey, modelLabel, type ModelChoice } from '../sweep/model-key.js';
import { sweepModels, type OpenModel, type SweepProgress } from '../sweep/sweep.js';
import { openTable, type Profile, type TableOutput } from '../sweep/table.js';
import { bytesOfBatch, largestBatch, withinMemory } from './batch-size.js';
import { END_TO_END_RATIOS, END_TO_END_SCHEMA } from './end-to-end-table.js';
import { measureEndToEnd, type EndToEndFigures, type EndToEndKey } from './end-to-end.js';
import { ratioTable } from './ratios.js';

/** Tokens that the paper generates. */
const GENERATED = 1024;

/** A batch that `auto` found by formula, or that ran out of memory. */
export interface BatchChange {
  readonly choice: ModelChoice;
  readonly context: number;
  /** Sequences that are going to be measured. */
  readonly batch: number;
  /** Sequences that ran out of memory before; null for the first. */
  readonly tooMany: number | null;
}

export interface ProfileEndToEndOptions {
  readonly models: readonly ModelChoice[];
  /** Tokens of a sequence, prompt and generated ones together. */
  readonly contexts: readonly number[];
  readonly engine: Engine;
  /** Sequences side by side; `auto` takes the most that fit in memory, 256 at most. Default 1. */
  readonly batches?: readonly (number | 'auto')[];
  /** Bytes of the device that `auto` plans for, weights included; default: what is free on this one. */
  readonly memoryBytes?: number;
  /** Tokens generated of each context; default 1,024 as in the paper, or half of a context below 2,048. */
  readonly generate?: number;
  /** Steps decoded before anything is timed; default 4. */
  readonly warmUp?: number;
  /** Runs that are counted; default 1. */
  readonly repetitions?: number;
  /** Time only so many chunks of the prefill, and interpolate the others. */
  readonly sampleChunks?: number;
  /** Time only so many decoding steps, in the middle of the generation. */
  readonly sampleSteps?: number;
  readonly seed?: number;
  readonly output?: TableOutput;
  readonly onProgress?: (progress: SweepProgress<EndToEndKey>) => void;
  readonly onBatch?: (change: BatchChange) => void;
}

/**
 * Times prompts and generation together. What does not fit in memory is a failed cell.
 * @throws UsageError where the generated tokens leave no prompt
 */
export async function profileEndToEnd(
  options: ProfileEndToEndOptions,
): Promise<Profile<EndToEndKey, EndToEndFigures>> {
  const { models, engine, output, batches = [1], onProgress, sampleChunks, sampleSteps } = options;
  const { warmUp = 4, repetitions = 1, seed = 1 } = options;
  const contexts = [...options.contexts].sort((a, b) => a - b);
  const generated = new Map(
    contexts.map((context) => [context, tokensToGenerate(context, options.generate)]),
  );
  const parts = models.map((choice) => ({
    choice,
    keys: batches.flatMap((batch) =>
      contexts.map((context): EndToEndKey => ({ ...modelKey(choice), context, batch })),
    ),
  }));
  const samples = { chunks: sampleChunks ?? null, steps: sampleSteps ?? null };
  const { table, writer } = openTable<EndToEndKey, EndToEndFigures>({
    schema: END_TO_END_SCHEMA,
    settings: {
      ...{ generate: options.generate ?? null, warmup: warmUp, repetitions, samples },
      ...(options.memoryBytes === undefined ? {} : { memory: options.memoryBytes }),
    },
    ...{ parts, engine, seed, output },
  });
  try {
    await sweepModels<EndToEndKey, EndToEndFigures>({
      ...{ parts, engine, seed, table, onProgress },
      unitsOf: ({ context }) => repetitions * context,
      measure: async (open, { context, batch }, onTokens) => {
        const generatedTokens = generated.get(context) ?? 1;
        const work = { warmUp, repetitions, sampleChunks, sampleSteps, seed, onProgress: onTokens };
        const measure = (sequences: number): Promise<EndToEndFigures> =>
          measureEndToEnd(open.model, engine, {
            ...work,
            generatedTokens,
            batch: sequences,
            promptTokens: context - generatedTokens,
          });
        const asked = batch === 'auto' ? undefined : batch;
        return measureBatch(open, options, { context, asked }, measure);
      },
    });
  } finally {
    writer?.close();
  }
  const { cells } = table;
  const rows = cells.map((cell) => rowOf(END_TO_END_SCHEMA, cell));
  return { cells, writer, derived: [ratioTable(END_TO_END_SCHEMA, rows, END_TO_END_RATIOS)] };
}

function tokensToGenerate(context: number, asked: number | undefined): number {
  const count = asked ?? Math.min(GENERATED, Math.floor(context / 2));
  if (count >= 1 && count < context) return count;
  const name = formatTokenCount(context);
  throw new UsageError(
    asked === undefined
      ? `a context of ${name} token has no room for a prompt and a generated token: take at least 2`
      : `${asked} generated tokens leave no prompt in a context of ${name}: generate fewer, or take longer contexts`,
  );
}

/** Measures the batch that was asked for, or the largest that fits. */
async function measureBatch(
  { choice, model: { config } }: OpenModel,
  { engine, onBatch, sampleChunks, memoryBytes = Infinity }: ProfileEndToEndOptions,
  { context, asked }: { context: number; asked: number | undefined },
  measure: (sequences: number) => Promise<EndToEndFigures>,
): Promise<EndToEndFigures> {
  const elementBytes = ELEMENT_BYTES[engine.storage];
  const isForked = sampleChunks !== undefined;
  const room = Math.min(engine.availableBytes(), memoryBytes - engine.memory().liveBytes);
  const planned = asked ?? largestBatch(config, context, elementBytes, room, isForked);
  const name = `context ${formatTokenCount(context)} of ${modelLabel(choice)}`;
  const what = planned === 1 ? name : `${name} for ${planned} sequences`;
  const needed = bytesOfBatch(config, context, planned, elementBytes, isForked);
  requireMemory(engine, needed, what);
  if (asked !== undefined) return measure(asked);
  if (needed > room) {
    throw new RunError(
      `${what} needs ${formatBytes(needed)} beside the weights, of ${formatBytes(memoryBytes)}`,
    );
  }
  const tell = (batch: number, tooMany: number | null): void => {
    onBatch?.({ choice, context, batch, tooMany });
  };
  tell(planned, null);
  const attempt = (sequences: number): Promise<EndToEndFigures> =>
    runCell(engine, async () => {
      const figures = await measure(sequences);
      const { peakBytes } = engine.memory();
      if (peakBytes > memoryBytes)
        throw new OutOfMemoryError(`${sequences} sequences took ${peakBytes} bytes`);
      return figures;
    });
  const { result } = await withinMemory(planned, attempt, (tooMany, next) => {
    tell(next, tooMany);
  });
  return result;
}
