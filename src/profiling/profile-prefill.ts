/** `yoco profile-prefill`. */
import type { RunContext } from '../sweep/run-context.js';
import { modelLabel } from '../sweep/models.js';
import { formatTokenCount } from '../results/display.js';
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import { findChunkSize } from './chunk-size.js';
import { growthTable } from './growth.js';
import type { DerivedTable } from '../results/derived.js';
import type { Row } from '../results/schema.js';
import type { ResultWriter } from '../results/writer.js';
import { besideWeights, ELEMENT_BYTES, requireMemory } from '../sweep/memory-budget.js';
import { measurePrefill, prefillTokens, type PrefillCell } from './prefill.js';
import { ratioTable } from './ratios.js';
import { PREFILL_RATIOS, PREFILL_SCHEMA } from './tables.js';
import { startChosenEngine } from '../engines/start.js';
import { openTable, planParts, runSweep, type ProfileFlags } from '../sweep/session.js';
import type { LoadedModel } from '../sweep/sweep.js';

export interface ProfilePrefillFlags extends ProfileFlags {
  chunk: number | 'auto';
  warmup: number;
  repetitions: number;
  'early-exit': readonly ('on' | 'off')[];
  'sample-chunks'?: number;
}

export async function profilePrefill(
  flags: ProfilePrefillFlags,
  context: RunContext,
): Promise<{ writer: ResultWriter; derived: DerivedTable[] }> {
  const parts = planParts(
    flags,
    flags['early-exit'].flatMap((exit) =>
      flags.ctx.map((count) => ({ early_exit: exit === 'on', context: count })),
    ),
  );
  const engine = await startChosenEngine(flags, context.note);
  const { chunk, warmup, repetitions, 'sample-chunks': samples } = flags;
  const writer = openTable(context, flags, {
    schema: PREFILL_SCHEMA,
    parts,
    engine,
    settings: { chunk, warmup, repetitions, samples: samples ?? null },
  });
  const chunks = new ChunkSizes(flags, engine, context);
  await runSweep(context, flags, {
    parts,
    engine,
    writer,
    tokensOf: (key) => prefillTokens(cellOf(key, flags, typeof chunk === 'number' ? chunk : 1024)),
    measure: async (loaded, key, onProgress) => {
      const cell = cellOf(key, flags, await chunks.of(loaded));
      requirePrefill(loaded, engine, cell);
      return measurePrefill(loaded.model, engine, { ...cell, onProgress });
    },
  });
  const { rows } = writer;
  return { writer, derived: [growthTable(rows), ratioTable(PREFILL_SCHEMA, rows, PREFILL_RATIOS)] };
}

function cellOf(
  key: Row,
  { seed, warmup, repetitions, 'sample-chunks': samples }: ProfilePrefillFlags,
  chunkSize: number,
): PrefillCell {
  return {
    context: Number(key.context),
    earlyExit: key.early_exit === true,
    chunkSize,
    seed,
    warmUp: warmup,
    repetitions,
    samples,
  };
}

function requirePrefill({ choice }: LoadedModel, engine: Engine, { context, chunkSize }: PrefillCell): void {
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const need = costs(choice.config).inferenceMemory({ context, chunk: chunkSize, bytesPerElement });
  requireMemory(engine, besideWeights(need), `context ${formatTokenCount(context)} of ${modelLabel(choice)}`);
}

/** The chunk size of each model: as told, or found once by measurement. */
class ChunkSizes {
  private readonly found = new Map<LoadedModel, number>();

  constructor(
    private readonly flags: ProfilePrefillFlags,
    private readonly engine: Engine,
    private readonly context: RunContext,
  ) {}

  async of(loaded: LoadedModel): Promise<number> {
    const { chunk, ctx, seed } = this.flags;
    if (chunk !== 'auto') return chunk;
    const known = this.found.get(loaded);
    if (known !== undefined) return known;
    const size = await findChunkSize(loaded.model, this.engine, Math.max(...ctx), seed);
    this.found.set(loaded, size);
    this.context.note(`${modelLabel(loaded.choice)}: fastest in chunks of ${formatTokenCount(size)} tokens`);
    return size;
  }
}
