/** `yoco profile-memory`. */
import type { RunContext } from '../sweep/run-context.js';
import { modelLabel } from '../sweep/models.js';
import { formatBytes, formatTokenCount } from '../results/display.js';
import type { Engine } from '../engines/engine.js';
import type { Row } from '../results/schema.js';
import type { ResultWriter } from '../results/writer.js';
import { computedMemory, measureMemory, type MemoryAssumptions } from './memory.js';
import { ELEMENT_BYTES } from '../sweep/memory-budget.js';
import { ratioTable } from './ratios.js';
import { MEMORY_RATIOS, MEMORY_SCHEMA } from './tables.js';
import { startChosenEngine } from '../engines/start.js';
import { openTable, planParts, runSweep, type ProfileFlags } from '../sweep/session.js';
import { planOf, type SweepPart } from '../sweep/sweep.js';
import type { DerivedTable } from '../results/derived.js';

export interface ProfileMemoryFlags extends ProfileFlags {
  chunk: number;
  analytic: boolean;
  'measure-up-to': number;
  'fill-cache': boolean;
}

export async function profileMemory(
  flags: ProfileMemoryFlags,
  context: RunContext,
): Promise<{ writer: ResultWriter; derived: DerivedTable[] }> {
  const parts = planParts(
    flags,
    flags.ctx.map((count) => ({ context: count })),
  );
  const engine = flags.analytic ? null : await startChosenEngine(flags, context.note);
  const storage = engine?.storage ?? flags.dtype ?? 'bfloat16';
  const assumptions = { bytesPerElement: ELEMENT_BYTES[storage], chunkSize: flags.chunk };
  context.note(
    `computed for batch 1, ${storage} (${assumptions.bytesPerElement} bytes an element), prefill in chunks of ${formatTokenCount(flags.chunk)} tokens`,
  );
  const measured = engine ? measurableParts(parts, engine, flags, assumptions, context) : [];
  const settings = {
    assumptions: { ...assumptions },
    fill: flags['fill-cache'],
    measured: measured.map(({ keys }) => keys.map(({ context: count }) => count ?? null)),
  };
  const writer = openTable(context, flags, { schema: MEMORY_SCHEMA, parts, engine, settings });
  appendComputed(writer, parts, measured, assumptions);
  if (engine) {
    await runSweep(context, flags, {
      parts: measured,
      engine,
      writer,
      tokensOf: (key) => Number(key.context),
      measure: async (loaded, key, onProgress) => {
        const count = Number(key.context);
        const { chunk, seed, 'fill-cache': fill } = flags;
        const options = { context: count, chunkSize: chunk, seed, fill, onProgress };
        return {
          ...computedMemory(loaded.choice.config, count, assumptions),
          ...(await measureMemory(loaded, engine, options)),
        };
      },
    });
  }
  return { writer, derived: [ratioTable(MEMORY_SCHEMA, writer.rows, MEMORY_RATIOS)] };
}

/** The cells short enough to be measured; what does not fit in memory is said before the work starts. */
function measurableParts(
  parts: readonly SweepPart[],
  engine: Engine,
  flags: ProfileMemoryFlags,
  assumptions: MemoryAssumptions,
  context: RunContext,
): SweepPart[] {
  const available = engine.availableBytes();
  return parts.map(({ choice, keys }) => {
    const asked = keys.filter((key) => Number(key.context) <= flags['measure-up-to']);
    const need = (key: Row): number =>
      Number(computedMemory(choice.config, Number(key.context), assumptions).total_bytes);
    const fitting = asked.filter((key) => need(key) <= available);
    const [refused] = asked.filter((key) => !fitting.includes(key));
    if (refused) {
      context.note(
        `${modelLabel(choice)} is not measured from context ${formatTokenCount(Number(refused.context))} on: it needs ${formatBytes(need(refused))}, ${formatBytes(available)} are available`,
      );
    }
    return { choice, keys: fitting };
  });
}

function appendComputed(
  writer: ResultWriter,
  parts: readonly SweepPart[],
  measured: readonly SweepPart[],
  assumptions: MemoryAssumptions,
): void {
  const toMeasure = new Set(planOf(measured));
  for (const { choice, keys } of parts) {
    for (const key of keys) {
      if (toMeasure.has(key) || writer.has(key)) continue;
      writer.append({ ...key, ...computedMemory(choice.config, Number(key.context), assumptions) });
    }
  }
}
