/**
 * All layouts once more, in float64 loops over arrays: hidden states and logits straight from the paper's
 * equations, sharing no code with the model except the list of parameters and the rotary frequencies.
 */
import type { ModelConfig } from '../../src/model/index.js';
import { transformerFrequencies, yocoFrequencies } from '../../src/model/frequencies.js';
import * as op from '../ops/reference.js';
import type { Array64 } from '../ops/reference.js';
import { CUSTOM_LAYOUT, GATED_LAYOUT } from './cases.js';

export type ReferenceWeights = ReadonlyMap<string, Array64>;

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

/** The words of each part and where its parameters are, written out by hand and not taken from the model. */
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

const YOCO = {
  embedding: 'embed_tokens',
  head: 'output_projection',
  norm: 'layer_norm',
  mixerNorm: 'mixer_layer_norm',
  feedForwardNorm: 'final_layer_norm',
  feedForward: ['ffn.fc1', 'ffn.gate', 'ffn.fc2'],
  mixer: ['mixer.q_proj', 'mixer.k_proj', 'mixer.v_proj', 'mixer.out_proj'],
};

const LLAMA: typeof YOCO = {
  embedding: 'tok_embeddings',
  head: 'output',
  norm: 'norm',
  mixerNorm: 'attention_norm',
  feedForwardNorm: 'ffn_norm',
  feedForward: ['feed_forward.w1', 'feed_forward.w3', 'feed_forward.w2'],
  mixer: ['attention.wq', 'attention.wk', 'attention.wv', 'attention.wo'],
};

interface Context {
  readonly config: ModelConfig;
  readonly weights: ReferenceWeights;
  readonly names: typeof YOCO;
  readonly prefix: string;
}

/** What layers leave to those after them: keys and values, and what was read out of a state. */
interface Shared {
  readonly keys?: Array64;
  readonly values?: Array64;
  readonly readout?: Array64;
}

/** Of the normed stream; `shared` is what the layers before have left, and what this one does. */
type ReferenceMixer = (
  context: Context,
  x: Array64,
  shared: Shared,
) => { readonly output: Array64; readonly shared?: Shared };

function feedForward({ config, weights, names, prefix }: Context, x: Array64): Array64 {
  const normed = op.rmsNorm(x, get(weights, `${prefix}.${names.feedForwardNorm}`), config.normEps);
  const [activated, gate, out] = names.feedForward.map((name) => get(weights, `${prefix}.${name}`)) as [
    Array64,
    Array64,
    Array64,
  ];
  return added(x, op.linear(op.swiglu(op.linear(normed, activated), op.linear(normed, gate)), out));
}

/** Heads by the position of their row. */
function rotated({ config, names }: Context, x: Array64): Array64 {
  if ('crossPositions' in config && config.crossPositions === 'none') return x;
  return turned(config, names, x);
}

function turned(config: ModelConfig, names: typeof YOCO, x: Array64): Array64 {
  const width = x.shape[3] as number;
  const scaling = 'ropeScaling' in config ? (config.ropeScaling ?? null) : null;
  return names === YOCO
    ? op.rotary(x, (_, time) => time, yocoFrequencies(width, config.ropeTheta), 'interleaved')
    : op.rotary(x, (_, time) => time, transformerFrequencies(width, config.ropeTheta, scaling), 'half');
}

function projections({ weights, names, prefix }: Context, x: Array64): [Array64, Array64, Array64, Array64] {
  const of = (i: number): Array64 => get(weights, `${prefix}.${names.mixer[i] as string}`);
  return [op.linear(x, of(0)), op.linear(x, of(1)), op.linear(x, of(2)), of(3)];
}

/** Projections with their biases, as Qwen 2 has them. */
function biased({ config, weights, names, prefix }: Context, x: Array64, i: number): Array64 {
  if (!('attentionBias' in config) || config.attentionBias !== true) return x;
  const bias = weights.get(`${prefix}.${names.mixer[i] as string}.bias`) as Array64;
  return op.build(x.shape, (...at) => op.at(x, ...at) + op.at(bias, at.at(-1) as number));
}

/** Heads with their norms, as Qwen 3 has them. */
function normed({ config, weights, prefix }: Context, x: Array64, name: 'q_norm' | 'k_norm'): Array64 {
  if (!('qkNorm' in config) || config.qkNorm !== true) return x;
  return op.rmsNorm(x, get(weights, `${prefix}.attention.${name}`), config.normEps);
}

const attend =
  (isWindowed: boolean): ReferenceMixer =>
  (context, x) => {
    const { config, names } = context;
    const [q, k, v, out] = projections(context, x).map((y, i) => (i < 3 ? biased(context, y, i) : y)) as [
      Array64,
      Array64,
      Array64,
      Array64,
    ];
    const isYoco = names === YOCO && isWindowed;
    const [queryHeads, keyHeads] = isYoco
      ? [selfHeads(config), selfHeads(config)]
      : [config.heads, config.kvHeads];
    const keys = turned(config, names, normed(context, heads(k, keyHeads), 'k_norm'));
    const values = heads(v, keyHeads);
    const window = isWindowed ? (config.slidingWindow ?? undefined) : undefined;
    const queries = turned(config, names, normed(context, heads(q, queryHeads), 'q_norm'));
    const mixed = op.attention(queries, keys, values, { window });
    const output = op.linear(merged(mixed), out);
    return isWindowed ? { output } : { output, shared: { keys, values } };
  };

const selfHeads = (config: ModelConfig): number =>
  ('selfHeads' in config ? config.selfHeads : undefined) ?? NaN;

const retain =
  (decayOf: (context: Context, x: Array64) => Array64): ReferenceMixer =>
  (context, x) => {
    const { config, weights, names, prefix } = context;
    const [q, k, v, out] = projections(context, x).map((part, i) =>
      i === 3 ? part : heads(part, selfHeads(config)),
    ) as [Array64, Array64, Array64, Array64];
    const decay = decayOf(context, x);
    const { output } = op.retention(turned(config, names, q), turned(config, names, k), v, decay);
    const normed = merged(op.rmsNorm(output, null, config.normEps));
    const gate = op.linear(x, get(weights, `${prefix}.mixer.g_proj`));
    return { output: op.linear(op.swiglu(gate, normed), out), shared: { readout: merged(output) } };
  };

const MIXERS: Readonly<Record<string, ReferenceMixer>> = {
  attention: attend(false),
  'sliding-window': attend(true),
  'gated-retention': retain(({ weights, prefix }, x) =>
    op.logDecay(op.linear(x, get(weights, `${prefix}.mixer.gt_proj`)), 16),
  ),
  retention: retain(({ config }, { shape }) => {
    const [batch, time, count] = [shape[0] as number, shape[1] as number, selfHeads(config)];
    const decays = Float64Array.from({ length: batch * time * count }, (_, i) =>
      Math.log(1 - 2 ** (-5 - (i % count))),
    );
    return { shape: [batch, time, count], data: decays };
  }),
  'mamba-2'({ config, weights, prefix }, x) {
    const of = (name: string): Array64 => get(weights, `${prefix}.mixer.${name}`);
    const convolved = (name: string): Array64 => {
      const options = { bias: of(`${name}_conv1d_bias`), silu: true };
      return op.shortConvolution(op.linear(x, of(`${name}_proj`)), of(`${name}_conv1d`), options).output;
    };
    const { stateHeadDim = 0, stateGroups = 0 } = config as { stateHeadDim?: number; stateGroups?: number };
    const values = convolved('x');
    const inputs = [
      heads(values, (values.shape[2] as number) / stateHeadDim),
      op.linear(x, of('dt_proj')),
      heads(convolved('b'), stateGroups),
      heads(convolved('c'), stateGroups),
    ] as const;
    const readout = merged(op.stateSpace(inputs, [of('dt_bias'), of('a_log'), of('d')]).output);
    const gated = heads(op.swiglu(op.linear(x, of('z_proj')), readout), stateGroups);
    const normed = merged(op.rmsNorm(gated, null, config.normEps));
    const norm = of('norm').data;
    const weighted = {
      ...normed,
      data: normed.data.map((value, i) => value * (norm[i % norm.length] as number)),
    };
    return { output: op.linear(weighted, of('out_proj')), shared: { readout } };
  },
  'gated-memory'({ config, weights, prefix }, x, { readout }) {
    const of = (name: string): Array64 => get(weights, `${prefix}.mixer.${name}`);
    const gated = op.swiglu(op.linear(x, of('in_proj')), readout as Array64);
    return { output: op.linear(op.rmsNorm(gated, of('norm'), config.normEps), of('out_proj')) };
  },
  'gated-delta-net'({ config, weights, prefix }, x) {
    const of = (name: string): Array64 => get(weights, `${prefix}.mixer.${name}`);
    const bare = (name: string): Array64 => weights.get(`${prefix}.mixer.${name}`) as Array64;
    const convolved = (name: string): Array64 => {
      const { output } = op.shortConvolution(op.linear(x, of(`${name}_proj`)), of(`${name}_conv1d`), {
        silu: true,
      });
      return heads(output, selfHeads(config));
    };
    const [q, k] = [op.l2Norm(convolved('q'), 1e-6), op.l2Norm(convolved('k'), 1e-6)];
    const gates = [op.linear(x, of('a_proj')), op.linear(x, of('b_proj')), bare('A_log'), bare('dt_bias')];
    const [decay, beta] = op.deltaGates(...(gates as [Array64, Array64, Array64, Array64])) as [
      Array64,
      Array64,
    ];
    const scales = { queryScale: (q.shape[3] as number) ** -0.5, keyScale: 1 };
    const { output } = op.deltaRule([q, k, convolved('v'), decay, beta], scales);
    const normed = merged(op.rmsNorm(output, of('o_norm'), config.normEps));
    return { output: op.linear(op.swiglu(op.linear(x, of('g_proj')), normed), of('out_proj')) };
  },
  cross(context, x, shared) {
    const { config, weights, names, prefix } = context;
    const of = (i: number): Array64 => get(weights, `${prefix}.${names.mixer[i] as string}`);
    const queries = rotated(context, heads(op.linear(x, of(0)), config.heads));
    const { keys, values } = shared as Required<Shared>;
    return { output: op.linear(merged(op.attention(queries, keys, values)), of(3)) };
  },
};
