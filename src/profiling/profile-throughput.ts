/** `yoco profile-throughput`. */
import type { RunContext } from '../sweep/run-context.js';
import { modelLabel } from '../sweep/models.js';
import { formatTokenCount } from '../results/display.js';
import type { DerivedTable } from '../results/derived.js';
import type { ResultWriter } from '../results/writer.js';
import { copyRate } from './copy-rate.js';
import { ELEMENT_BYTES, requireMemory } from '../sweep/memory-budget.js';
import { ratioTable } from './ratios.js';
import { THROUGHPUT_RATIOS, THROUGHPUT_SCHEMA } from './tables.js';
import { startChosenEngine } from '../engines/start.js';
import { openTable, planParts, runSweep, type ProfileFlags } from '../sweep/session.js';
import type { LoadedModel } from '../sweep/sweep.js';
import { GrowingContext, measureDecoding, type ContextOptions } from './throughput.js';

export interface ProfileThroughputFlags extends ProfileFlags {
  warmup: number;
  tokens: number;
  'fill-cache': boolean;
}

export async function profileThroughput(
  flags: ProfileThroughputFlags,
  context: RunContext,
): Promise<{ writer: ResultWriter; derived: DerivedTable[] }> {
  const contexts = [...flags.ctx].sort((a, b) => a - b);
  const parts = planParts(
    flags,
    contexts.map((count) => ({ context: count })),
  );
  const engine = await startChosenEngine(flags, context.note);
  const { tokens, warmup, 'fill-cache': fill } = flags;
  const writer = openTable(context, flags, {
    schema: THROUGHPUT_SCHEMA,
    parts,
    engine,
    settings: { tokens, warmup, fill },
  });
  const longest = Math.max(...contexts);
  const prompts = new Prompts({ longest, decoded: tokens + warmup, seed: flags.seed, fill });
  let rate: number | undefined;
  try {
    await runSweep(context, flags, {
      parts,
      engine,
      writer,
      tokensOf: ({ context: count }) => Number(count),
      measure: async (loaded, key, onProgress) => {
        const count = Number(key.context);
        const prompt = prompts.of(loaded);
        const bytes = prompt.bytesToReach(count, ELEMENT_BYTES[engine.storage]);
        requireMemory(engine, bytes, `context ${formatTokenCount(count)} of ${modelLabel(loaded.choice)}`);
        rate ??= await copyRate(engine);
        const cache = prompt.reach(count, onProgress);
        const options = { warmUp: warmup, tokens, copyRate: rate };
        const row = await measureDecoding(loaded.model, engine, cache, options);
        cache.dispose();
        return { ...row, prefilled_tokens: prompt.prefilledTokens };
      },
    });
  } finally {
    prompts.dispose();
  }
  return { writer, derived: [ratioTable(THROUGHPUT_SCHEMA, writer.rows, THROUGHPUT_RATIOS)] };
}

/** The growing prompt of the model at work; the one before is let go. */
class Prompts {
  private owner: LoadedModel | undefined;
  private prompt: GrowingContext | undefined;

  constructor(private readonly options: ContextOptions) {}

  of(loaded: LoadedModel): GrowingContext {
    if (this.prompt && this.owner === loaded) return this.prompt;
    this.dispose();
    this.owner = loaded;
    return (this.prompt = new GrowingContext(loaded.model, this.options));
  }

  dispose(): void {
    this.prompt?.dispose();
    this.prompt = undefined;
  }
}
