/**
 * Which tensors a configuration has, under the names of the official checkpoints, and how they start.
 *
 * Initialisation is the official one (YOCO/yoco/models/decoder/model_parallel_init.py): retention projections
 * xavier-uniform with gain 2^-2.5, its output projection with gain 2^-1, every other matrix
 * uniform in ±1/sqrt(fan in) (PyTorch's kaiming-uniform with a = sqrt 5), embeddings normal with deviation dim^-0.5, norms 1.
 */
import type { ModelConfig, TransformerConfig, YocoConfig } from './config.js';
import { headDim } from './config.js';

export type Initialiser =
  | { readonly kind: 'ones' }
  | { readonly kind: 'normal'; readonly deviation: number }
  | { readonly kind: 'uniform'; readonly bound: number };

export interface ParameterSpec {
  readonly name: string;
  /** Matrices are [out, in]. */
  readonly shape: readonly number[];
  readonly initialiser: Initialiser;
}

/** All parameters in the order of the official state dictionaries. */
export function parameterSpecs(config: ModelConfig): ParameterSpec[] {
  return config.architecture === 'yoco' ? yocoSpecs(config) : transformerSpecs(config);
}

export function elements(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

function norm(name: string, width: number): ParameterSpec {
  return { name: `${name}.weight`, shape: [width], initialiser: { kind: 'ones' } };
}

function matrix(name: string, out: number, input: number): ParameterSpec {
  const initialiser: Initialiser = { kind: 'uniform', bound: input ** -0.5 };
  return { name: `${name}.weight`, shape: [out, input], initialiser };
}

function xavier(name: string, out: number, input: number, gain: number): ParameterSpec {
  const initialiser: Initialiser = { kind: 'uniform', bound: gain * Math.sqrt(6 / (input + out)) };
  return { name: `${name}.weight`, shape: [out, input], initialiser };
}

function tokenEmbedding(name: string, { vocabSize, dim }: ModelConfig): ParameterSpec {
  const initialiser: Initialiser = { kind: 'normal', deviation: dim ** -0.5 };
  return { name: `${name}.weight`, shape: [vocabSize, dim], initialiser };
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

function yocoSpecs(config: YocoConfig): ParameterSpec[] {
  const { dim, vocabSize, layers, selfLayers, kvHeads } = config;
  const keyWidth = kvHeads * headDim(config);
  return [
    tokenEmbedding('embed_tokens', config),
    matrix('output_projection', vocabSize, dim),
    ...range(selfLayers).flatMap((i) => {
      const layer = `self_decoder.layers.${i}`;
      return [...selfMixer(`${layer}.mixer`, config), ...yocoRest(layer, config)];
    }),
    matrix('cross_decoder.k_proj', keyWidth, dim),
    matrix('cross_decoder.v_proj', keyWidth, dim),
    norm('cross_decoder.kv_layer_norm', dim),
    ...range(layers - selfLayers).flatMap((i) => {
      const layer = `cross_decoder.layers.${i}`;
      const mixer = ['q_proj', 'out_proj'].map((name) => matrix(`${layer}.mixer.${name}`, dim, dim));
      return [...mixer, ...yocoRest(layer, config)];
    }),
    norm('layer_norm', dim),
  ];
}

function selfMixer(mixer: string, { dim, selfHeads, selfDecoder }: YocoConfig): ParameterSpec[] {
  if (selfDecoder === 'sliding-window') {
    return ['q_proj', 'k_proj', 'v_proj', 'out_proj'].map((name) => matrix(`${mixer}.${name}`, dim, dim));
  }
  return [
    ...['q_proj', 'k_proj', 'v_proj', 'g_proj'].map((name) =>
      xavier(`${mixer}.${name}`, dim, dim, 2 ** -2.5),
    ),
    xavier(`${mixer}.gt_proj`, selfHeads, dim, 2 ** -2.5),
    xavier(`${mixer}.out_proj`, dim, dim, 2 ** -1),
  ];
}

/** What follows the mixer in a layer of YOCO, in official order. */
function yocoRest(layer: string, { dim, hiddenDim }: YocoConfig): ParameterSpec[] {
  return [
    norm(`${layer}.mixer_layer_norm`, dim),
    matrix(`${layer}.ffn.fc1`, hiddenDim, dim),
    matrix(`${layer}.ffn.gate`, hiddenDim, dim),
    matrix(`${layer}.ffn.fc2`, dim, hiddenDim),
    norm(`${layer}.final_layer_norm`, dim),
  ];
}

function transformerSpecs(config: TransformerConfig): ParameterSpec[] {
  const { dim, hiddenDim, heads, kvHeads, layers, vocabSize, tieEmbeddings } = config;
  const queryWidth = heads * config.headDim;
  const keyWidth = kvHeads * config.headDim;
  return [
    tokenEmbedding('tok_embeddings', config),
    norm('norm', dim),
    ...(tieEmbeddings ? [] : [matrix('output', vocabSize, dim)]),
    ...range(layers).flatMap((i) => {
      const layer = `layers.${i}`;
      return [
        matrix(`${layer}.attention.wq`, queryWidth, dim),
        matrix(`${layer}.attention.wk`, keyWidth, dim),
        matrix(`${layer}.attention.wv`, keyWidth, dim),
        matrix(`${layer}.attention.wo`, dim, queryWidth),
        norm(`${layer}.attention_norm`, dim),
        norm(`${layer}.ffn_norm`, dim),
        matrix(`${layer}.feed_forward.w1`, hiddenDim, dim),
        matrix(`${layer}.feed_forward.w2`, dim, hiddenDim),
        matrix(`${layer}.feed_forward.w3`, hiddenDim, dim),
      ];
    }),
  ];
}
