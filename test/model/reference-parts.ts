/** The parts of every layout and the names of their parameters, written out by hand and not taken from the model. */
import type { ModelConfig } from '../../src/model/index.js';
import { CUSTOM_LAYOUT, GATED_LAYOUT } from './cases.js';

/** A layout as the tests write it: what each part is, and the prefix of its parameters. */
export interface ReferencePart {
  readonly word: string;
  readonly prefix: string;
}

const CUSTOM_PARTS: ReferencePart[] = [
  { word: 'sliding-window', prefix: 'layers.0' },
  { word: 'memory', prefix: 'memories.0' },
  { word: 'cross', prefix: 'layers.1' },
  { word: 'attention', prefix: 'layers.2' },
  { word: 'gated-retention', prefix: 'layers.3' },
  { word: 'cross', prefix: 'layers.4' },
  { word: 'memory', prefix: 'memories.1' },
  { word: 'cross', prefix: 'layers.5' },
  { word: 'cross', prefix: 'layers.6' },
];

const GATED_PARTS: ReferencePart[] = [
  { word: 'gated-retention', prefix: 'self_decoder.layers.0' },
  { word: 'sliding-window', prefix: 'self_decoder.layers.1' },
  { word: 'memory', prefix: 'cross_decoder' },
  ...['gated-memory', 'cross', 'retention', 'gated-memory', 'cross', 'gated-memory'].map((word, i) => ({
    word,
    prefix: `cross_decoder.layers.${i}`,
  })),
];

/** The words of each part and where its parameters are. */
export function referenceParts(config: ModelConfig): ReferencePart[] {
  const { layers } = config;
  const numbered = (count: number, prefix: string, ...words: string[]): ReferencePart[] =>
    Array.from({ length: count }, (_, i) => ({
      word: words[i % words.length] as string,
      prefix: `${prefix}layers.${i}`,
    }));
  const memory = { word: 'memory', prefix: 'cross_decoder' };
  switch (config.architecture) {
    case 'transformer':
    case 'gqa':
    case 'mqa':
      return numbered(layers, '', config.slidingWindow === null ? 'attention' : 'sliding-window');
    case 'yoco':
      return [
        ...numbered(config.selfLayers, 'self_decoder.', config.selfDecoder),
        memory,
        ...numbered(layers - config.selfLayers, 'cross_decoder.', 'cross'),
      ];
    case 'yoco-gmu':
      return [
        ...numbered(config.selfLayers ?? 0, 'self_decoder.', config.selfDecoder as string),
        memory,
        ...numbered(layers - (config.selfLayers ?? 0), 'cross_decoder.', 'gated-memory', 'cross'),
      ];
    case 'unstacked-yoco':
      return [
        ...numbered(config.selfLayers ?? 0, 'self_decoder.', config.selfDecoder as string),
        memory,
        { word: 'embeddings', prefix: '' },
        ...numbered(layers - (config.selfLayers ?? 0), 'cross_decoder.', 'cross'),
      ];
    case 'interleaved':
      return numbered(layers, '', config.selfDecoder as string, 'attention');
    case 'sambay':
      return [
        ...numbered(config.selfLayers ?? 0, 'self_decoder.', 'mamba-2', 'sliding-window'),
        memory,
        ...numbered(layers - (config.selfLayers ?? 0), 'cross_decoder.', 'gated-memory', 'cross'),
      ];
    case 'mamba2':
      return numbered(layers, '', 'mamba-2');
    case 'gretnet':
      return numbered(layers, '', 'gated-retention');
    case 'retnet':
      return numbered(layers, '', 'retention');
    case 'gated-deltanet':
      return numbered(layers, '', 'gated-delta-net');
    case 'cla':
      return numbered(layers, '', 'attention', 'cross');
    case 'cla3':
      return numbered(layers, '', 'attention', 'cross', 'cross');
    case 'custom':
      if (config.layout === CUSTOM_LAYOUT) return CUSTOM_PARTS;
      if (config.layout === GATED_LAYOUT) return GATED_PARTS;
      throw new Error(`write out the layout '${String(config.layout)}'`);
  }
}

/** Names of parameters; those of a mixer are its projections to queries, keys, values and the output. */
export const YOCO = {
  embedding: 'embed_tokens',
  head: 'output_projection',
  norm: 'layer_norm',
  mixerNorm: 'mixer_layer_norm',
  feedForwardNorm: 'final_layer_norm',
  feedForward: ['ffn.fc1', 'ffn.gate', 'ffn.fc2'],
  mixer: ['mixer.q_proj', 'mixer.k_proj', 'mixer.v_proj', 'mixer.out_proj'],
};

export type ReferenceNames = typeof YOCO;

export const LLAMA: ReferenceNames = {
  embedding: 'tok_embeddings',
  head: 'output',
  norm: 'norm',
  mixerNorm: 'attention_norm',
  feedForwardNorm: 'ffn_norm',
  feedForward: ['feed_forward.w1', 'feed_forward.w3', 'feed_forward.w2'],
  mixer: ['attention.wq', 'attention.wk', 'attention.wv', 'attention.wo'],
};
