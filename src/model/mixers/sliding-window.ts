/** Causal attention over the last positions only: YOCO's other self-decoder, and windowed Transformers. */
import { UsageError } from '../../errors.js';
import { conventionsOf } from '../conventions.js';
import type { SelfMemory } from '../state/memory.js';
import { WindowRing } from '../state/constant.js';
import { PresentKeys } from '../state/present.js';
import {
  attentionFlops,
  attentionParameters,
  attentionShape,
  attentionWeights,
  type AttentionShape,
  type HeadFields,
  readHeads,
  SelfAttention,
} from './attention.js';
import type { MixerDefinition, Shape } from './mixer.js';
import { readSelfHeads } from './self-heads.js';

/** With YOCO's conventions it has heads of its own, each with keys and values. */
export interface WindowFields extends HeadFields {
  readonly selfHeads?: number;
}

function windowOf({ slidingWindow }: Shape): number {
  if (slidingWindow !== null) return slidingWindow;
  throw new UsageError("configuration: slidingWindow must be a number of positions for 'sliding-window'");
}

function shapeOf(config: Shape & WindowFields): AttentionShape {
  const { dim, selfHeads } = config;
  if (conventionsOf(config).name === 'llama' || selfHeads === undefined) return attentionShape(config);
  return { heads: selfHeads, kvHeads: selfHeads, headDim: dim / selfHeads };
}

export const slidingWindow: MixerDefinition<WindowFields, SelfMemory> = {
  label: 'sliding-window attention',
  fields(fields, shape) {
    windowOf(shape);
    return conventionsOf(shape).name === 'llama'
      ? readHeads(fields, shape)
      : { selfHeads: readSelfHeads(fields, shape) };
  },
  parameters: (config) => attentionParameters(config.dim, shapeOf(config)),
  build(config, weight, conventions) {
    const shape = shapeOf(config);
    const rotation = conventions.rotation(shape.headDim, config);
    return new SelfAttention(attentionWeights(shape, weight), shape, rotation, config.normEps);
  },
  memory: (config) => new WindowRing(windowOf(config)),
  present: (config) => new PresentKeys(false, windowOf(config)),
  keyValueElements: () => 0,
  stateBytes(config, bytesPerElement) {
    const { kvHeads, headDim } = shapeOf(config);
    return 2 * windowOf(config) * kvHeads * headDim * bytesPerElement;
  },
  flops: (config) => attentionFlops(config.dim, shapeOf(config), windowOf(config)),
};
