/** What params.json calls the fields of a Transformer, in Meta's checkpoints and in those of the official YOCO code. */
export const TRANSFORMER_PARAMS = {
  layers: 'n_layers',
  hiddenDim: 'hidden_dim',
  heads: 'n_heads',
  kvHeads: 'n_kv_heads',
  headDim: 'head_dim',
  vocabSize: 'vocab_size',
  ropeTheta: 'rope_theta',
  normEps: 'norm_eps',
  slidingWindow: 'sliding_window',
} as const;
