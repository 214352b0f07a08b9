/**
 * What two families of models do differently beside their layout: how their parameters are called and ordered in
 * checkpoints, how heads are rotated, and how embeddings are scaled.
 */
import { yocoFrequencies, transformerFrequencies } from './frequencies.js';
import type { HeadRotation } from './layers/heads.js';
import type { LayerWeights } from './layers/layer.js';
import { LAYOUTS, type Architecture } from './layouts.js';
import type { RopeScaling } from './rope-scaling.js';

interface Rotated {
  readonly ropeTheta: number;
  readonly ropeScaling?: RopeScaling | null;
}

export interface Conventions {
  readonly name: 'yoco' | 'llama';
  readonly embedding: string;
  readonly head: string;
  readonly norm: string;
  /** Whether the final norm comes before the output head and the layers in checkpoints, or last. */
  readonly normFirst: boolean;
  /** A mixer's parameter within its layer, from the name that the mixer gives it. */
  readonly mixer: (name: string) => string;
  /** The other parameters of a layer, in the order of checkpoints. */
  readonly layer: Readonly<Record<keyof LayerWeights, string>>;
  readonly embeddingScale: (dim: number) => number;
  readonly rotation: (headDim: number, config: Rotated) => HeadRotation;
}

/** The official YOCO code (microsoft/unilm, YOCO/yoco/models/decoder). */
const YOCO: Conventions = {
  name: 'yoco',
  embedding: 'embed_tokens',
  head: 'output_projection',
  norm: 'layer_norm',
  normFirst: false,
  mixer: (name) => `mixer.${name}`,
  layer: {
    mixerNorm: 'mixer_layer_norm',
    activated: 'ffn.fc1',
    gate: 'ffn.gate',
    out: 'ffn.fc2',
    feedForwardNorm: 'final_layer_norm',
  },
  embeddingScale: Math.sqrt,
  rotation: (headDim, { ropeTheta }) => ({
    frequencies: yocoFrequencies(headDim, ropeTheta),
    style: 'interleaved',
  }),
};

const LLAMA_NAMES: Readonly<Record<string, string>> = {
  q_proj: 'wq',
  k_proj: 'wk',
  v_proj: 'wv',
  'q_proj.bias': 'wq.bias',
  'k_proj.bias': 'wk.bias',
  'v_proj.bias': 'wv.bias',
  out_proj: 'wo',
};

/** Llama, as the official Transformer baseline has it. */
const LLAMA: Conventions = {
  name: 'llama',
  embedding: 'tok_embeddings',
  head: 'output',
  norm: 'norm',
  normFirst: true,
  mixer: (name) => `attention.${LLAMA_NAMES[name] ?? name}`,
  layer: {
    mixerNorm: 'attention_norm',
    feedForwardNorm: 'ffn_norm',
    activated: 'feed_forward.w1',
    out: 'feed_forward.w2',
    gate: 'feed_forward.w3',
  },
  embeddingScale: () => 1,
  rotation: (headDim, { ropeTheta, ropeScaling = null }) => ({
    frequencies: transformerFrequencies(headDim, ropeTheta, ropeScaling),
    style: 'half',
  }),
};

export function conventionsOf({ architecture }: { readonly architecture: Architecture }): Conventions {
  return LAYOUTS[architecture].conventions === 'yoco' ? YOCO : LLAMA;
}
