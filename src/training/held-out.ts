/** Loss on texts that are not trained on, text by text. */
import type { TableSchema } from '../results/typed.js';
import { addSums, noLosses, type LossSums } from './step.js';
import type { HeldOutSource } from './task.js';

export interface HeldOutKey {
  /** Optimizer step after which it was measured. */
  readonly step: number;
  readonly source: string;
}

/** Losses in nats per target; null where there are no such targets. */
export interface HeldOutFigures {
  readonly targets: number;
  readonly loss: number;
  readonly arHitLoss: number | null;
  readonly firstOccurLoss: number | null;
  readonly arHitShare: number;
  readonly bitsPerByte: number;
}

export type HeldOutCell = HeldOutKey & HeldOutFigures;

export const HELD_OUT_SCHEMA: TableSchema<HeldOutKey, HeldOutFigures> = {
  name: 'held-out',
  columns: [
    {
      name: 'step',
      kind: 'key',
      description: 'optimizer step after which it was measured',
      display: 'count',
    },
    { name: 'source', kind: 'key', description: 'text that is not trained on' },
    { name: 'targets', kind: 'result', description: 'predicted tokens', display: 'count' },
    { name: 'loss', kind: 'result', description: 'nats per target', digits: 6, better: 'lower' },
    {
      name: 'ar_hit_loss',
      kind: 'result',
      description: 'of targets that complete a bigram which their context has shown before',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'first_occur_loss',
      kind: 'result',
      description: 'of all other targets',
      digits: 6,
      better: 'lower',
    },
    { name: 'ar_hit_share', kind: 'result', description: 'share of the former in all targets', digits: 6 },
    {
      name: 'bits_per_byte',
      kind: 'result',
      description: 'of UTF-8 text, which compares over tokenizers',
      digits: 6,
      better: 'lower',
    },
  ],
};

/** The figures of each text from the losses of batches, of which each belongs to one. */
export function heldOutCells(
  step: number,
  sources: readonly HeldOutSource[],
  batches: readonly (LossSums & { readonly source: number })[],
): HeldOutCell[] {
  return sources.map(({ name, bytesPerToken }, index) => {
    const sums = noLosses();
    for (const { source, ...batch } of batches) if (source === index) addSums(sums, batch);
    const { text, textTargets, repeated, repeatedTargets } = sums;
    const loss = text / textTargets;
    return {
      step,
      source: name,
      targets: textTargets,
      loss,
      arHitLoss: mean(repeated, repeatedTargets),
      firstOccurLoss: mean(text - repeated, textTargets - repeatedTargets),
      arHitShare: repeatedTargets / textTargets,
      bitsPerByte: loss / Math.LN2 / bytesPerToken,
    };
  });
}

const mean = (sum: number, count: number): number | null => (count === 0 ? null : sum / count);
