/**
 * All layouts once more, in float64 loops over arrays: hidden states and logits straight from the paper's
 * equations, sharing no code with the model except the list of parameters and the rotary frequencies.
 */
import type { ModelConfig } from '../../src/model/index.js';
import * as op from '../ops/reference.js';
import type { Array64 } from '../ops/reference.js';
import {
  type Context,
  get,
  heads,
  MIXERS,
  type ReferenceMixer,
  type ReferenceWeights,
  reshaped,
  rotated,
  type Shared,
} from './reference-mixers.js';
import { LLAMA, referenceParts, YOCO } from './reference-parts.js';

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

const added = (a: Array64, b: Array64): Array64 => ({
  shape: a.shape,
  data: a.data.map((value, i) => value + (b.data[i] as number)),
});

function embedded(table: Array64, tokens: readonly number[][], scale: number): Array64 {
  const [batch, time] = [tokens.length, (tokens[0] as number[]).length];
  return reshaped(op.embedding(table, tokens.flat(), scale), batch, time, table.shape[1] as number);
}

/** Logits [B, T, V] of tokens [B][T]. */
export function logits(
  config: ModelConfig,
  weights: ReferenceWeights,
  tokens: readonly number[][],
  parts = referenceParts(config),
): Array64 {
  const names = weights.has('tok_embeddings.weight') ? LLAMA : YOCO;
  const { normEps: eps } = config;
  const table = get(weights, names.embedding);
  const first = embedded(table, tokens, names === YOCO ? Math.sqrt(config.dim) : 1);
  let x = first;
  let shared: Shared = {};
  for (const { word, prefix } of parts) {
    if (word === 'embeddings') {
      x = first;
      continue;
    }
    const context: Context = { config, weights, names, prefix };
    if (word === 'memory') {
      const normed = op.rmsNorm(x, get(weights, `${prefix}.kv_layer_norm`), eps);
      const keys = heads(op.linear(normed, get(weights, `${prefix}.k_proj`)), config.kvHeads);
      const values = heads(op.linear(normed, get(weights, `${prefix}.v_proj`)), config.kvHeads);
      shared = { ...shared, keys: rotated(context, keys), values };
      continue;
    }
    const normed = op.rmsNorm(x, get(weights, `${prefix}.${names.mixerNorm}`), eps);
    const mix = MIXERS[word] as ReferenceMixer;
    const mixed = mix(context, normed, shared);
    shared = { ...shared, ...mixed.shared };
    x = feedForward(context, added(x, mixed.output));
  }
  const output = get(weights, config.tieEmbeddings ? names.embedding : names.head);
  return op.linear(op.rmsNorm(x, get(weights, names.norm), eps), output);
}

function feedForward({ config, weights, names, prefix }: Context, x: Array64): Array64 {
  const normed = op.rmsNorm(x, get(weights, `${prefix}.${names.feedForwardNorm}`), config.normEps);
  const [activated, gate, out] = names.feedForward.map((name) => get(weights, `${prefix}.${name}`)) as [
    Array64,
    Array64,
    Array64,
  ];
  return added(x, op.linear(op.swiglu(op.linear(normed, activated), op.linear(normed, gate)), out));
}
