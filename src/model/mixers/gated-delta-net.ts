/**
 * Gated DeltaNet (arXiv 2412.06464): queries, keys and values pass a short convolution and silu, queries and keys are
 * normalised, and the gated delta rule mixes positions. Names, shapes and initial values of parameters are those of
 * flash-linear-attention, but for the output projection, which is called as in the other mixers.
 */
import { UsageError } from '../../errors.js';
import { deltaGates, gatedDeltaRule, gatedRmsNorm, linear, linearGroup, reshape, rmsNorm, shortConvolution } from '../../ops/index.js'; // prettier-ignore
import * as tf from '../../tf.js';
import type { FieldReader } from '../config-fields.js';
import { type Initialiser, norm, type ParameterInput, xavier } from '../initial-values.js';
import { mergeHeads, type Rows, splitHeads } from '../layers/heads.js';
import type { Readout } from '../layers/readout.js';
import { RecurrentState, STATE_BYTES } from '../state/constant.js';
import type { StateChange, StateMemory } from '../state/memory.js';
import { PresentState } from '../state/present.js';
import type { Mixer, MixerDefinition, Shape } from './mixer.js';
import { readSelfHeads, type SelfHeadFields } from './self-heads.js';

export interface DeltaNetFields extends SelfHeadFields {
  /** Width of a head's queries and keys, and of its values; both default to dim / selfHeads. */
  readonly deltaKeyDim: number;
  readonly deltaValueDim: number;
  /** Positions that a short convolution sees, its own included. */
  readonly convKernel: number;
}

/** Added to the squared norm of queries and keys. */
const NORM_EPS = 1e-6;
/** Rates start uniform from 0; a rate of exactly 0 would have a logarithm of -Infinity. */
const LEAST_RATE = 2 ** -20;
/** Longest convolution, and widest keys of a head: what kernels keep at hand. */
const [MAX_CONV_KERNEL, MAX_KEY_DIM] = [64, 256];

interface DeltaNetWeights {
  readonly query: tf.Variable;
  readonly key: tf.Variable;
  readonly value: tf.Variable;
  /** Of the output gate. */
  readonly gate: tf.Variable;
  /** Of the decay and of the strength, a row per head. */
  readonly decay: tf.Variable;
  readonly strength: tf.Variable;
  readonly aLog: tf.Variable;
  readonly dtBias: tf.Variable;
  /** [width, 1, convKernel] */
  readonly queryConvolution: tf.Variable;
  readonly keyConvolution: tf.Variable;
  readonly valueConvolution: tf.Variable;
  /** [deltaValueDim], shared by the heads. */
  readonly norm: tf.Variable;
  readonly out: tf.Variable;
}

/** Projected queries, keys and values, [B, T, width], decays and strengths, [B, T, H]. */
type DeltaNetInputs = [q: tf.Tensor3D, k: tf.Tensor3D, v: tf.Tensor3D, decay: tf.Tensor3D, beta: tf.Tensor3D];

class GatedDeltaNet implements Mixer<StateMemory> {
  constructor(
    private readonly own: DeltaNetWeights,
    private readonly heads: number,
    private readonly normEps: number,
  ) {}

  get weights(): tf.Variable[] {
    return Object.values(this.own) as tf.Variable[];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: StateMemory, readout: Readout): tf.Tensor3D {
    const { own } = this;
    const gated = tf.tidy(() => {
      const weights = [own.query, own.key, own.value, own.gate, own.decay, own.strength];
      const projections = linearGroup(x, weights) as tf.Tensor3D[];
      const [q, k, v, gate, a, b] = projections as [...DeltaNetInputs, tf.Tensor3D];
      const { logDecay, beta } = deltaGates({
        a,
        b,
        aLog: own.aLog as unknown as tf.Tensor1D,
        dtBias: own.dtBias as unknown as tf.Tensor1D,
      });
      const inputs: DeltaNetInputs = [q, k, v, logDecay, beta];
      const mixed = memory.advance(inputs, rows, (parts, state) => this.step(parts, state)) as tf.Tensor4D;
      readout.offer(() => mergeHeads(mixed));
      return mergeHeads(gatedRmsNorm(mixed, gate, this.normEps, own.norm));
    });
    return linear(gated, own.out, residual) as tf.Tensor3D;
  }

  private step([q, k, v, logDecay, beta]: DeltaNetInputs, held: readonly tf.Tensor4D[]): StateChange {
    const [state, ...tails] = held;
    const { own, heads } = this;
    const convolved = [
      convolve(q, own.queryConvolution, tails[0]),
      convolve(k, own.keyConvolution, tails[1]),
      convolve(v, own.valueConvolution, tails[2]),
    ] as const;
    const [queries, keys, values] = convolved.map(({ output }) => splitHeads(output, heads)) as [
      tf.Tensor4D,
      tf.Tensor4D,
      tf.Tensor4D,
    ];
    const width = queries.shape[3];
    // Of norm √width: the factors bring keys to norm 1, and queries to width^-0.5 beside.
    const unit = (x: tf.Tensor4D): tf.Tensor4D => rmsNorm(x, null, NORM_EPS / width);
    const options = { state, queryScale: 1 / width, keyScale: width ** -0.5 };
    const after = gatedDeltaRule(unit(queries), unit(keys), values, logDecay, beta, options);
    return { output: after.output, state: [after.state, ...convolved.map(({ tail }) => tail)] };
  }
}

/** With its state as memories hold it, [B, 1, K - 1, width]. */
function convolve(
  x: tf.Tensor3D,
  weight: tf.Variable,
  tail: tf.Tensor4D | undefined,
): { output: tf.Tensor3D; tail: tf.Tensor4D } {
  const [batch, , width] = x.shape;
  const taps = weight.shape[2] as number;
  const state = tail && reshape<tf.Rank.R3>(tail, [batch, taps - 1, width]);
  const result = shortConvolution(x, weight as unknown as tf.Tensor3D, { state, silu: true });
  return { output: result.output, tail: reshape<tf.Rank.R4>(result.state, [batch, 1, taps - 1, width]) };
}

function readFields(fields: FieldReader, shape: Shape): DeltaNetFields {
  const selfHeads = readSelfHeads(fields, shape);
  const width = shape.dim / selfHeads;
  const convKernel = fields.positiveInteger('convKernel', 4);
  if (convKernel < 2 || convKernel > MAX_CONV_KERNEL) {
    throw new UsageError(
      `configuration: convKernel must be from 2 to ${MAX_CONV_KERNEL}, found ${convKernel}`,
    );
  }
  const deltaKeyDim = fields.positiveInteger('deltaKeyDim', width);
  if (deltaKeyDim > MAX_KEY_DIM) {
    throw new UsageError(
      `configuration: deltaKeyDim must be at most ${MAX_KEY_DIM}, found ${deltaKeyDim}: take more selfHeads or narrower keys`,
    );
  }
  return {
    selfHeads,
    deltaKeyDim,
    deltaValueDim: fields.positiveInteger('deltaValueDim', width),
    convKernel,
  };
}

const perHead = (name: string, heads: number, official: Initialiser): ParameterInput => ({
  name,
  shape: [heads],
  role: 'other',
  isBare: true,
  official,
});

/** As PyTorch starts a depthwise Conv1d. */
const taps = (name: string, width: number, size: number): ParameterInput => ({
  name,
  shape: [width, 1, size],
  role: 'other',
  official: { kind: 'uniform', bound: size ** -0.5 },
});

export const gatedDeltaNet: MixerDefinition<DeltaNetFields, StateMemory> = {
  label: 'Gated DeltaNet',
  fields: readFields,
  parameters({ dim, selfHeads, deltaKeyDim, deltaValueDim, convKernel }) {
    const [keyWidth, valueWidth] = [selfHeads * deltaKeyDim, selfHeads * deltaValueDim];
    const input = (name: string, out: number): ParameterInput => xavier(name, out, dim, 2 ** -2.5);
    return [
      perHead('A_log', selfHeads, { kind: 'log-uniform', from: LEAST_RATE, to: 16 }),
      perHead('dt_bias', selfHeads, { kind: 'inverse-softplus', from: 0.001, to: 0.1 }),
      input('q_proj', keyWidth),
      input('k_proj', keyWidth),
      input('v_proj', valueWidth),
      input('a_proj', selfHeads),
      input('b_proj', selfHeads),
      taps('q_conv1d', keyWidth, convKernel),
      taps('k_conv1d', keyWidth, convKernel),
      taps('v_conv1d', valueWidth, convKernel),
      input('g_proj', valueWidth),
      norm('o_norm', deltaValueDim),
      xavier('out_proj', dim, valueWidth, 2 ** -1, 'output'),
    ];
  },
  build({ selfHeads, normEps }, weight) {
    const own: DeltaNetWeights = {
      query: weight('q_proj'),
      key: weight('k_proj'),
      value: weight('v_proj'),
      gate: weight('g_proj'),
      decay: weight('a_proj'),
      strength: weight('b_proj'),
      aLog: weight('A_log'),
      dtBias: weight('dt_bias'),
      queryConvolution: weight('q_conv1d'),
      keyConvolution: weight('k_conv1d'),
      valueConvolution: weight('v_conv1d'),
      norm: weight('o_norm'),
      out: weight('out_proj'),
    };
    return new GatedDeltaNet(own, selfHeads, normEps);
  },
  memory: () => new RecurrentState(),
  present: () => new PresentState(),
  readoutWidth: ({ selfHeads, deltaValueDim }) => selfHeads * deltaValueDim,
  keyValueElements: () => 0,
  stateBytes({ selfHeads, deltaKeyDim, deltaValueDim, convKernel }, bytesPerElement) {
    const inputs = (convKernel - 1) * (2 * deltaKeyDim + deltaValueDim) * bytesPerElement;
    return selfHeads * (deltaKeyDim * deltaValueDim * STATE_BYTES + inputs);
  },
  flops({ dim, selfHeads, deltaKeyDim, deltaValueDim, convKernel }) {
    const [keyWidth, valueWidth] = [selfHeads * deltaKeyDim, selfHeads * deltaValueDim];
    const convolutions = 2 * convKernel * (2 * keyWidth + valueWidth);
    return {
      projections: 2 * dim * (2 * keyWidth + 3 * valueWidth + 2 * selfHeads),
      // In its recurrent form: what the state answers to a key, what is written, what it answers to a query, 2 Dk Dv each.
      mixing: (_, count) => count * (convolutions + 6 * keyWidth * deltaValueDim),
    };
  },
};
