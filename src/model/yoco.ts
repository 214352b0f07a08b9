/**
 * You Only Cache Once (arXiv 2405.05254): a self-decoder of constant state, whose output gives one global set of keys and
 * values, and a cross-decoder whose layers all attend to it.
 *
 * The official incremental code (microsoft/unilm, YOCO/yoco/models/decoder) has limits that its parallel forward does not
 * have: it pads every chunk of a retention prefill to 256 positions and so needs room for them in `max_seq_len`, decodes
 * single tokens only, and returns zeros where the cross-decoder is skipped. Here all routes follow the parallel forward: any
 * chunking, no logits.
 */
import { embedding, KeyValuePages, linearGroup, rmsNorm } from '../ops/index.js';
import * as tf from '../tf.js';
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
import { headDim, selfHeadDim, type YocoConfig } from './config.js';
import { yocoFrequencies } from './frequencies.js';
import type { CacheOptions, LogitsWanted } from './language-model.js';
import { CrossAttention, type GlobalMemory } from './layers/cross-attention.js';
import { GatedRetention } from './layers/gated-retention.js';
import { type HeadRotation, rotateHeads, rotationAt, splitHeads, type Rotation } from './layers/heads.js';
import { Layer, type Mixer, type Rows } from './layers/layer.js';
import { SelfAttention } from './layers/self-attention.js';
import { Weights, type InitialWeights } from './weights.js';

/** The global keys and values, then the state of every layer of the self-decoder. */
type YocoMemories = readonly [KeyValuePages, ...LayerState[]];

export class Yoco extends BaseModel {
  protected readonly head: HeadWeights;
  private readonly selfDecoder: Layer<LayerState | null>[];
  private readonly crossDecoder: Layer<GlobalMemory>[];
  private readonly crossRotation: Rotation;

  constructor(
    override readonly config: YocoConfig,
    seed: number | string,
    initial: InitialWeights,
  ) {
    super(config, new Weights(config, seed, initial));
    this.head = {
      norm: this.weights.get('layer_norm.weight'),
      output: this.weights.get('output_projection.weight'),
    };
    const { layers, selfLayers, ropeTheta, crossPositions } = config;
    this.crossRotation =
      crossPositions === 'none'
        ? null
        : { frequencies: yocoFrequencies(headDim(config), ropeTheta), style: 'interleaved' };
    this.selfDecoder = indices(selfLayers).map((i) => this.selfLayer(`self_decoder.layers.${i}`));
    this.crossDecoder = indices(layers - selfLayers).map((i) => this.crossLayer(`cross_decoder.layers.${i}`));
  }

  private weight(name: string): tf.Variable {
    return this.weights.get(`${name}.weight`);
  }

  private selfLayer(name: string): Layer<LayerState | null> {
    const { selfHeads, slidingWindow, ropeTheta, normEps } = this.config;
    const frequencies = yocoFrequencies(selfHeadDim(this.config), ropeTheta);
    const rotation: HeadRotation = { frequencies, style: 'interleaved' };
    const attention = {
      query: this.weight(`${name}.mixer.q_proj`),
      key: this.weight(`${name}.mixer.k_proj`),
      value: this.weight(`${name}.mixer.v_proj`),
      out: this.weight(`${name}.mixer.out_proj`),
    };
    if (slidingWindow !== null) {
      const shape = { heads: selfHeads, kvHeads: selfHeads, window: slidingWindow, rotation };
      return this.layer(name, new SelfAttention(attention, shape));
    }
    const gate = this.weight(`${name}.mixer.g_proj`);
    const decay = this.weight(`${name}.mixer.gt_proj`);
    return this.layer(name, new GatedRetention({ ...attention, gate, decay }, selfHeads, rotation, normEps));
  }

  private crossLayer(name: string): Layer<GlobalMemory> {
    const query = this.weight(`${name}.mixer.q_proj`);
    const out = this.weight(`${name}.mixer.out_proj`);
    return this.layer(name, new CrossAttention(query, out, this.config.heads, this.crossRotation));
  }

  private layer<M>(name: string, mixer: Mixer<M>): Layer<M> {
    const feedForward = {
      activated: this.weight(`${name}.ffn.fc1`),
      gate: this.weight(`${name}.ffn.gate`),
      out: this.weight(`${name}.ffn.fc2`),
    };
    const norms = ['mixer_layer_norm', 'final_layer_norm'].map((norm) => this.weight(`${name}.${norm}`));
    const [mixerNorm, feedForwardNorm] = norms as [tf.Variable, tf.Variable];
    return new Layer(mixer, mixerNorm, feedForward, feedForwardNorm, this.config.normEps);
  }

  private embed(tokens: tf.Tensor2D): tf.Tensor3D {
    return embedding(this.weight('embed_tokens'), tokens, Math.sqrt(this.config.dim)) as tf.Tensor3D;
  }

  /** The global keys, not rotated yet, and values of hidden states [B, T, dim]: each [B, T, Hkv, D]. */
  private keysAndValues(hidden: tf.Tensor3D): [tf.Tensor4D, tf.Tensor4D] {
    const projections = [this.weight('cross_decoder.k_proj'), this.weight('cross_decoder.v_proj')];
    return tf.tidy(() => {
      const normed = rmsNorm(hidden, this.weight('cross_decoder.kv_layer_norm'), this.config.normEps);
      return linearGroup(normed, projections).map((x) => splitHeads(x, this.config.kvHeads)) as [
        tf.Tensor4D,
        tf.Tensor4D,
      ];
    });
  }

  protected hidden(tokens: tf.Tensor2D, positions: Int32Array | null, recompute: boolean): tf.Tensor3D {
    const encoded = runLayers(this.embed(tokens), this.selfDecoder, (layer, x) =>
      recompute ? recomputedLayer(layer, x, FROM_START, [], () => null) : layer.forward(x, FROM_START, null),
    );
    const memory = tf.tidy((): [tf.Tensor4D, tf.Tensor4D] => {
      const [keys, values] = this.keysAndValues(encoded);
      return [rotateHeads(keys, FROM_START, this.crossRotation), values];
    });
    const rows: Rows = { start: 0, positions };
    const x = positions ? pickRows(encoded, positions) : encoded;
    return runLayers(x, this.crossDecoder, (layer, x) =>
      recompute
        ? recomputedLayer(layer, x, rows, memory, (keys, values) => [keys, values] as GlobalMemory)
        : layer.forward(x, rows, memory),
    );
  }

  protected advance(
    tokens: tf.Tensor2D,
    memories: readonly Memory[],
    start: number,
    wanted: LogitsWanted,
    earlyExit: boolean,
  ): tf.Tensor3D | null {
    const [pages, ...states] = memories as YocoMemories;
    const rows: Rows = { start, positions: null };
    const encoded = runLayers(this.embed(tokens), this.selfDecoder, (layer, x, i) =>
      layer.forward(x, rows, states[i] ?? null),
    );
    tf.tidy(() => {
      pages.append(
        ...this.keysAndValues(encoded),
        this.crossRotation && rotationAt(rows, this.crossRotation),
      );
    });
    if (earlyExit && wanted === 'none') return null;
    const last = { start: start + encoded.shape[1] - 1, positions: null };
    const decode = (x: tf.Tensor3D, rows: Rows): tf.Tensor3D =>
      runLayers(x, this.crossDecoder, (layer, x) => layer.forward(x, rows, pages));
    if (earlyExit && wanted === 'last') return decode(lastRow(encoded), last);
    const decoded = decode(encoded, rows);
    return wanted === 'all' ? decoded : wanted === 'last' ? lastRow(decoded) : null;
  }

  createCache({ batch = 1, maxTokens }: CacheOptions = {}): ModelCache {
    const { kvHeads, selfLayers } = this.config;
    const pages = new KeyValuePages({ batch, kvHeads, headDim: headDim(this.config), maxTokens });
    const states = indices(selfLayers).map(() => new LayerState());
    return new LayerCache(batch, [pages, ...states] satisfies YocoMemories);
  }

  protected fits([first, ...rest]: readonly Memory[]): boolean {
    const states = rest.filter((memory) => memory instanceof LayerState);
    return first instanceof KeyValuePages && states.length === this.config.selfLayers;
  }
}

export function indices(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}
