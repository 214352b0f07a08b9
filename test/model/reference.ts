/**
 * Both architectures once more, in float64 loops over arrays: hidden states and logits straight from the paper's
 * equations, sharing no code with the model except the list of parameters and the rotary frequencies.
 */
import type { ModelConfig, TransformerConfig, YocoConfig } from '../../src/model/index.js';
import { transformerFrequencies, yocoFrequencies } from '../../src/model/frequencies.js';
import * as op from '../ops/reference.js';
import type { Array64 } from '../ops/reference.js';

export type ReferenceWeights = ReadonlyMap<string, Array64>;

/** Logits [B, T, V] of tokens [B][T]. */
export function logits(config: ModelConfig, weights: ReferenceWeights, tokens: readonly number[][]): Array64 {
  return config.architecture === 'yoco'
    ? yocoLogits(config, weights, tokens)
    : transformerLogits(config, weights, tokens);
}

/** Mean cross-entropy of targets [B][T], in nats. */
export function meanLoss(
  config: ModelConfig,
  weights: ReferenceWeights,
  tokens: readonly number[][],
  targets: readonly number[][],
): number {
  const scores = logits(config, weights, tokens);
  const flat = { shape: [scores.data.length / config.vocabSize, config.vocabSize], data: scores.data };
  const losses = op.crossEntropy(flat, targets.flat()).data;
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

const get = (weights: ReferenceWeights, name: string): Array64 => {
  const found = weights.get(`${name}.weight`);
  if (!found) throw new Error(`no weight '${name}'`);
  return found;
};

const reshaped = (x: Array64, ...shape: number[]): Array64 => ({ shape, data: x.data });

const added = (a: Array64, b: Array64): Array64 => ({
  shape: a.shape,
  data: a.data.map((value, i) => value + (b.data[i] as number)),
});

function embedded(table: Array64, tokens: readonly number[][], scale: number): Array64 {
  const [batch, time] = [tokens.length, (tokens[0] as number[]).length];
  return reshaped(op.embedding(table, tokens.flat(), scale), batch, time, table.shape[1] as number);
}

function heads(x: Array64, count: number): Array64 {
  const [batch, time, width] = x.shape as [number, number, number];
  return reshaped(x, batch, time, count, width / count);
}

function merged(x: Array64): Array64 {
  const [batch, time, count, width] = x.shape as [number, number, number, number];
  return reshaped(x, batch, time, count * width);
}

function yocoLogits(config: YocoConfig, weights: ReferenceWeights, tokens: readonly number[][]): Array64 {
  const { dim, layers, selfLayers, kvHeads, normEps: eps } = config;
  const weight = (name: string): Array64 => get(weights, name);
  let x = embedded(weight('embed_tokens'), tokens, Math.sqrt(dim));
  for (let i = 0; i < selfLayers; i++) {
    const name = `self_decoder.layers.${i}`;
    const normed = op.rmsNorm(x, weight(`${name}.mixer_layer_norm`), eps);
    const mixed = config.selfDecoder === 'sliding-window' ? windowMixer : retentionMixer;
    x = feedForward(added(x, mixed(config, weights, `${name}.mixer`, normed)), weights, name, eps);
  }
  const normed = op.rmsNorm(x, weight('cross_decoder.kv_layer_norm'), eps);
  const keys = crossRotated(config, heads(op.linear(normed, weight('cross_decoder.k_proj')), kvHeads));
  const values = heads(op.linear(normed, weight('cross_decoder.v_proj')), kvHeads);
  for (let i = 0; i < layers - selfLayers; i++) {
    const name = `cross_decoder.layers.${i}`;
    const normed = op.rmsNorm(x, weight(`${name}.mixer_layer_norm`), eps);
    const queries = crossRotated(
      config,
      heads(op.linear(normed, weight(`${name}.mixer.q_proj`)), config.heads),
    );
    const mixed = op.linear(merged(op.attention(queries, keys, values)), weight(`${name}.mixer.out_proj`));
    x = feedForward(added(x, mixed), weights, name, eps);
  }
  return op.linear(op.rmsNorm(x, weight('layer_norm'), eps), weight('output_projection'));
}

function feedForward(x: Array64, weights: ReferenceWeights, name: string, eps: number): Array64 {
  const normed = op.rmsNorm(x, get(weights, `${name}.final_layer_norm`), eps);
  const hidden = op.swiglu(
    op.linear(normed, get(weights, `${name}.ffn.fc1`)),
    op.linear(normed, get(weights, `${name}.ffn.gate`)),
  );
  return added(x, op.linear(hidden, get(weights, `${name}.ffn.fc2`)));
}

function rotatedBy(x: Array64, frequencies: Float64Array): Array64 {
  return op.rotary(x, (_, time) => time, frequencies, 'interleaved');
}

function crossRotated(config: YocoConfig, x: Array64): Array64 {
  if (config.crossPositions === 'none') return x;
  return rotatedBy(x, yocoFrequencies(config.dim / config.heads, config.ropeTheta));
}

type SelfMixer = (config: YocoConfig, weights: ReferenceWeights, name: string, x: Array64) => Array64;

const projected = (weights: ReferenceWeights, name: string, x: Array64, count: number): Array64 =>
  heads(op.linear(x, get(weights, name)), count);

const windowMixer: SelfMixer = (config, weights, name, x) => {
  const frequencies = yocoFrequencies(config.dim / config.selfHeads, config.ropeTheta);
  const [q, k, v] = ['q_proj', 'k_proj', 'v_proj'].map((projection) =>
    projected(weights, `${name}.${projection}`, x, config.selfHeads),
  ) as [Array64, Array64, Array64];
  const mixed = op.attention(rotatedBy(q, frequencies), rotatedBy(k, frequencies), v, {
    window: config.slidingWindow ?? undefined,
  });
  return op.linear(merged(mixed), get(weights, `${name}.out_proj`));
};

const retentionMixer: SelfMixer = (config, weights, name, x) => {
  const frequencies = yocoFrequencies(config.dim / config.selfHeads, config.ropeTheta);
  const [q, k, v] = ['q_proj', 'k_proj', 'v_proj'].map((projection) =>
    projected(weights, `${name}.${projection}`, x, config.selfHeads),
  ) as [Array64, Array64, Array64];
  const decay = op.logDecay(op.linear(x, get(weights, `${name}.gt_proj`)), 16);
  const { output } = op.retention(rotatedBy(q, frequencies), rotatedBy(k, frequencies), v, decay);
  const normed = merged(op.rmsNorm(output, null, config.normEps));
  return op.linear(
    op.swiglu(op.linear(x, get(weights, `${name}.g_proj`)), normed),
    get(weights, `${name}.out_proj`),
  );
};

function transformerLogits(
  config: TransformerConfig,
  weights: ReferenceWeights,
  tokens: readonly number[][],
): Array64 {
  const { layers, kvHeads, ropeTheta, ropeScaling, slidingWindow, normEps: eps } = config;
  const weight = (name: string): Array64 => get(weights, name);
  const frequencies = transformerFrequencies(config.headDim, ropeTheta, ropeScaling);
  const rotated = (x: Array64): Array64 => op.rotary(x, (_, time) => time, frequencies, 'half');
  let x = embedded(weight('tok_embeddings'), tokens, 1);
  for (let i = 0; i < layers; i++) {
    const name = `layers.${i}`;
    const normed = op.rmsNorm(x, weight(`${name}.attention_norm`), eps);
    const q = rotated(projected(weights, `${name}.attention.wq`, normed, config.heads));
    const k = rotated(projected(weights, `${name}.attention.wk`, normed, kvHeads));
    const v = projected(weights, `${name}.attention.wv`, normed, kvHeads);
    const mixed = merged(op.attention(q, k, v, { window: slidingWindow ?? undefined }));
    x = added(x, op.linear(mixed, weight(`${name}.attention.wo`)));
    const inner = op.rmsNorm(x, weight(`${name}.ffn_norm`), eps);
    const hidden = op.swiglu(
      op.linear(inner, weight(`${name}.feed_forward.w1`)),
      op.linear(inner, weight(`${name}.feed_forward.w3`)),
    );
    x = added(x, op.linear(hidden, weight(`${name}.feed_forward.w2`)));
  }
  const output = weight(config.tieEmbeddings ? 'tok_embeddings' : 'output');
  return op.linear(op.rmsNorm(x, weight('norm'), eps), output);
}
