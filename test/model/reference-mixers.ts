/** The mixers in float64 loops over arrays. */
import type { ModelConfig } from '../../src/model/index.js';
import { transformerFrequencies, yocoFrequencies } from '../../src/model/frequencies.js';
import * as op from '../ops/reference.js';
import type { Array64 } from '../ops/reference.js';
import { type ReferenceNames, YOCO } from './reference-parts.js';

export type ReferenceWeights = ReadonlyMap<string, Array64>;

export const get = (weights: ReferenceWeights, name: string): Array64 => {
  const found = weights.get(`${name}.weight`);
  if (!found) throw new Error(`no weight '${name}'`);
  return found;
};

export const reshaped = (x: Array64, ...shape: number[]): Array64 => ({ shape, data: x.data });

export function heads(x: Array64, count: number): Array64 {
  const [batch, time, width] = x.shape as [number, number, number];
  return reshaped(x, batch, time, count, width / count);
}

function merged(x: Array64): Array64 {
  const [batch, time, count, width] = x.shape as [number, number, number, number];
  return reshaped(x, batch, time, count * width);
}

export interface Context {
  readonly config: ModelConfig;
  readonly weights: ReferenceWeights;
  readonly names: ReferenceNames;
  readonly prefix: string;
}

/** What layers leave to those after them: keys and values, and what was read out of a state. */
export interface Shared {
  readonly keys?: Array64;
  readonly values?: Array64;
  readonly readout?: Array64;
}

/** Of the normed stream; `shared` is what the layers before have left, and what this one does. */
export type ReferenceMixer = (
  context: Context,
  x: Array64,
  shared: Shared,
) => { readonly output: Array64; readonly shared?: Shared };

/** Heads by the position of their row. */
export function rotated({ config, names }: Context, x: Array64): Array64 {
  if ('crossPositions' in config && config.crossPositions === 'none') return x;
  return turned(config, names, x);
}

function turned(config: ModelConfig, names: ReferenceNames, x: Array64): Array64 {
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

export const MIXERS: Readonly<Record<string, ReferenceMixer>> = {
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
    const gated = op.swiglu(op.linear(x, of('g_proj')), normed);
    return { output: op.linear(gated, of('out_proj')), shared: { readout: merged(output) } };
  },
  cross(context, x, shared) {
    const { config, weights, names, prefix } = context;
    const of = (i: number): Array64 => get(weights, `${prefix}.${names.mixer[i] as string}`);
    const queries = rotated(context, heads(op.linear(x, of(0)), config.heads));
    const { keys, values } = shared as Required<Shared>;
    return { output: op.linear(merged(op.attention(queries, keys, values)), of(3)) };
  },
};
