import { formatTokenCount } from '../results/display.js';
import { modelLabel, type ModelKey } from '../sweep/model-key.js';
import type { SweepProgress } from '../sweep/sweep.js';

/** What stands beside the progress of a profile: `tiny yoco (gated-retention), context 64k`. */
export function cellName({
  choice,
  key: { context },
}: SweepProgress<ModelKey & { readonly context: number }>): string {
  return `${modelLabel(choice)}, context ${formatTokenCount(context)}`;
}
