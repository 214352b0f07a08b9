import type { ModelConfig, TransformerConfig, YocoConfig } from '../model/config.js';

type Shapes = [name: string, shape: number[]][];

/**
 * Names and shapes of all parameters of a model, in the order of the official state dicts: what a checkpoint must
 * hold. Weights of linear layers are [out, in].
 */
export function parameterShapes(config: ModelConfig): Map<string, readonly number[]> {
  return new Map(config.architecture === 'yoco' ? yocoShapes(config) : transformerShapes(config));
}

function yocoShapes(config: YocoConfig): Shapes {
  const { dim, layers, selfLayers, selfHeads, heads, kvHeads, vocabSize, selfDecoder } = config;
  const kvDim = (dim / heads) * kvHeads;
  const layer = (prefix: string, projections: Shapes): Shapes => [
    ...projections.map(([name, shape]): [string, number[]] => [`${prefix}.mixer.${name}.weight`, shape]),
    [`${prefix}.mixer_layer_norm.weight`, [dim]],
    [`${prefix}.ffn.fc1.weight`, [config.hiddenDim, dim]],
    [`${prefix}.ffn.gate.weight`, [config.hiddenDim, dim]],
    [`${prefix}.ffn.fc2.weight`, [dim, config.hiddenDim]],
    [`${prefix}.final_layer_norm.weight`, [dim]],
  ];
  const square = (...names: string[]): Shapes => names.map((name) => [name, [dim, dim]]);
  const selfProjections: Shapes =
    selfDecoder === 'gated-retention'
      ? [
          ...square('q_proj', 'k_proj', 'v_proj', 'g_proj'),
          ['gt_proj', [selfHeads, dim]],
          ...square('out_proj'),
        ]
      : square('q_proj', 'k_proj', 'v_proj', 'out_proj');
  const indices = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
  return [
    ['embed_tokens.weight', [vocabSize, dim]],
    ['output_projection.weight', [vocabSize, dim]],
    ...indices(selfLayers).flatMap((index) => layer(`self_decoder.layers.${index}`, selfProjections)),
    ['cross_decoder.k_proj.weight', [kvDim, dim]],
    ['cross_decoder.v_proj.weight', [kvDim, dim]],
    ['cross_decoder.kv_layer_norm.weight', [dim]],
    ...indices(layers - selfLayers).flatMap((index) =>
      layer(`cross_decoder.layers.${index}`, square('q_proj', 'out_proj')),
    ),
    ['layer_norm.weight', [dim]],
  ];
}

function transformerShapes(config: TransformerConfig): Shapes {
  const { dim, layers, heads, kvHeads, headDim, hiddenDim, vocabSize } = config;
  const layer = (prefix: string): Shapes => [
    [`${prefix}.attention.wq.weight`, [heads * headDim, dim]],
    [`${prefix}.attention.wk.weight`, [kvHeads * headDim, dim]],
    [`${prefix}.attention.wv.weight`, [kvHeads * headDim, dim]],
    [`${prefix}.attention.wo.weight`, [dim, heads * headDim]],
    [`${prefix}.attention_norm.weight`, [dim]],
    [`${prefix}.ffn_norm.weight`, [dim]],
    [`${prefix}.feed_forward.w1.weight`, [hiddenDim, dim]],
    [`${prefix}.feed_forward.w2.weight`, [dim, hiddenDim]],
    [`${prefix}.feed_forward.w3.weight`, [hiddenDim, dim]],
  ];
  return [
    ['tok_embeddings.weight', [vocabSize, dim]],
    ['norm.weight', [dim]],
    ...(config.tieEmbeddings ? [] : ([['output.weight', [vocabSize, dim]]] satisfies Shapes)),
    ...Array.from({ length: layers }, (_, index) => layer(`layers.${index}`)).flat(),
  ];
}
