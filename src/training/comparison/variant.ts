/** What tells architectures apart, whatever their size. */
import { architectureName, selfDecoderOf, type ModelConfig } from '../../model/config.js';

/** The variant that others are compared with. */
export const BASELINE = 'transformer';

const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));

/** `3:1`: layers of the self-decoder to those of the cross-decoder; empty where they are equal or there are none. */
function proportion({ layers, ...config }: ModelConfig): string {
  const selfLayers = 'selfLayers' in config ? config.selfLayers : undefined;
  if (selfLayers === undefined || 2 * selfLayers === layers) return '';
  const common = divisor(layers - selfLayers, selfLayers);
  return `${selfLayers / common}:${(layers - selfLayers) / common}`;
}

/**
 * `transformer`, `yoco gated-retention`, `yoco sliding-window-128 3:1`, `retnet`: layout, mixer of the self-decoder with its
 * window, and the proportion of self- to cross-decoder where it is not 1:1. Layouts without a name are written out.
 */
export function variantOf(config: ModelConfig): string {
  // Without a self-decoder its mixer says nothing.
  const isEmpty = 'selfLayers' in config && config.selfLayers === 0;
  const mixer = isEmpty ? null : selfDecoderOf(config);
  const window = config.slidingWindow;
  const windowed = mixer === null && window !== null ? 'sliding-window' : mixer;
  const isWindow = windowed === 'sliding-window' && window !== null;
  return [architectureName(config), isWindow ? `${windowed}-${window}` : windowed, proportion(config)]
    .filter((part) => part !== null && part !== '')
    .join(' ');
}
