/** The baseline: a decoder-only Transformer as in Llama (RMSNorm, SwiGLU, rotary embedding, grouped K/V heads). */
import { embedding, KeyValuePages } from '../ops/index.js';
import type * as tf from '../tf.js';
import {
  BaseModel,
  FROM_START,
  lastRow,
  pickRows,
  recomputedLayer,
  runLayers,
  type HeadWeights,
} from './base-model.js';
import { LayerCache, LayerState, type Memory, type ModelCache } from './cache.js';
import type { TransformerConfig } from './config.js';
import { transformerFrequencies } from './frequencies.js';
import type { CacheOptions, LogitsWanted } from './language-model.js';
import { Layer, type Rows } from './layers/layer.js';
import { SelfAttention, type AttentionMemory } from './layers/self-attention.js';
import { Weights, type InitialWeights } from './weights.js';
import { indices } from './yoco.js';

export class Transformer extends BaseModel {
  protected readonly head: HeadWeights;
  private readonly layers: Layer<AttentionMemory>[];

  constructor(
    override readonly config: TransformerConfig,
    seed: number | string,
    initial: InitialWeights,
  ) {
    super(config, new Weights(config, seed, initial));
    this.head = {
      norm: this.weight('norm'),
      output: this.weight(config.tieEmbeddings ? 'tok_embeddings' : 'output'),
    };
    this.layers = indices(config.layers).map((i) => this.layer(`layers.${i}`));
  }

  private weight(name: string): tf.Variable {
    return this.weights.get(`${name}.weight`);
  }

  private layer(name: string): Layer<AttentionMemory> {
    const { heads, kvHeads, headDim, slidingWindow, ropeTheta, ropeScaling, normEps } = this.config;
    const frequencies = transformerFrequencies(headDim, ropeTheta, ropeScaling);
    const attention = new SelfAttention(
      {
        query: this.weight(`${name}.attention.wq`),
        key: this.weight(`${name}.attention.wk`),
        value: this.weight(`${name}.attention.wv`),
        out: this.weight(`${name}.attention.wo`),
      },
      { heads, kvHeads, window: slidingWindow, rotation: { frequencies, style: 'half' } },
    );
    const feedForward = {
      activated: this.weight(`${name}.feed_forward.w1`),
      gate: this.weight(`${name}.feed_forward.w3`),
      out: this.weight(`${name}.feed_forward.w2`),
    };
    const mixerNorm = this.weight(`${name}.attention_norm`);
    return new Layer(attention, mixerNorm, feedForward, this.weight(`${name}.ffn_norm`), normEps);
  }

  private embed(tokens: tf.Tensor2D): tf.Tensor3D {
    return embedding(this.weight('tok_embeddings'), tokens) as tf.Tensor3D;
  }

  protected hidden(tokens: tf.Tensor2D, positions: Int32Array | null, recompute: boolean): tf.Tensor3D {
    const hidden = runLayers(this.embed(tokens), this.layers, (layer, x) =>
      recompute ? recomputedLayer(layer, x, FROM_START, [], () => null) : layer.forward(x, FROM_START, null),
    );
    return positions ? pickRows(hidden, positions) : hidden;
  }

  protected advance(
    tokens: tf.Tensor2D,
    memories: readonly Memory[],
    start: number,
    wanted: LogitsWanted,
  ): tf.Tensor3D | null {
    const rows: Rows = { start, positions: null };
    const hidden = runLayers(this.embed(tokens), this.layers, (layer, x, i) =>
      layer.forward(x, rows, memories[i] as Memory),
    );
    if (wanted === 'none') return null;
    return wanted === 'all' ? hidden : lastRow(hidden);
  }

  createCache({ batch = 1, maxTokens }: CacheOptions = {}): ModelCache {
    const { layers, kvHeads, headDim, slidingWindow } = this.config;
    const memories = indices(layers).map((): Memory =>
      slidingWindow === null ? new KeyValuePages({ batch, kvHeads, headDim, maxTokens }) : new LayerState(),
    );
    return new LayerCache(batch, memories);
  }

  protected fits(memories: readonly Memory[]): boolean {
    const { slidingWindow, layers } = this.config;
    const kind = slidingWindow === null ? KeyValuePages : LayerState;
    return memories.length === layers && memories.every((memory) => memory instanceof kind);
  }
}
