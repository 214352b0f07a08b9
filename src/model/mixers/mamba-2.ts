/**
 * Mamba-2 (Dao and Gu, arXiv 2405.21060): a short convolution over x, B and C, then the state space of
 * `ops/state-space-dual`, then a norm after the gate. Names and initial values are those of the authors' code
 * (state-spaces/mamba, mamba_ssm/modules/mamba2.py); its in_proj, the rows z, x, B, C, dt, and its conv1d, the channels x, B, C,
 * are parameters of their own here, so that no activation is cut up.
 */
import { UsageError } from '../../errors.js';
import {
  linear,
  linearGroup,
  reshape,
  rmsNorm,
  shortConvolution,
  stateSpaceDual,
  swiglu,
} from '../../ops/index.js';
import * as tf from '../../tf.js';
import type { FieldReader } from '../config-fields.js';
import { matrix, norm, type ParameterInput } from '../initial-values.js';
import { mergeHeads, type Rows, splitHeads } from '../layers/heads.js';
import type { Readout } from '../layers/readout.js';
import { RecurrentState, STATE_BYTES } from '../state/constant.js';
import type { StateMemory } from '../state/memory.js';
import { PresentState } from '../state/present.js';
import type { Mixer, MixerDefinition, Shape } from './mixer.js';

export interface StateSpaceFields {
  /** N, the keys' width: rows of a head's state. Default 128. */
  readonly stateDim: number;
  /** P, width of a head. Default 64, less where the inner width has no heads of 64. */
  readonly stateHeadDim: number;
  /** Inner width over dim. Default 2. */
  readonly expand: number;
  /** Groups of heads that share B and C. Default 1. */
  readonly stateGroups: number;
  /** Taps of the short convolution. Default 4. */
  readonly convKernel: number;
}

const [USUAL_STATES, USUAL_HEAD] = [128, 64];

function readStateSpace(fields: FieldReader, { dim }: Shape): StateSpaceFields {
  const expand = fields.positiveInteger('expand', 2);
  const inner = expand * dim;
  const stateHeadDim = fields.positiveInteger('stateHeadDim', Math.min(USUAL_HEAD, inner));
  if (inner % stateHeadDim !== 0) {
    throw new UsageError(
      `configuration: stateHeadDim (${stateHeadDim}) must divide expand x dim (${expand} x ${dim} = ${inner})`,
    );
  }
  const heads = inner / stateHeadDim;
  const stateGroups = fields.positiveInteger('stateGroups', 1);
  if (heads % stateGroups !== 0) {
    throw new UsageError(
      `configuration: stateGroups (${stateGroups}) must divide the ${heads} heads of the state space`,
    );
  }
  const convKernel = fields.positiveInteger('convKernel', 4);
  if (convKernel < 2)
    throw new UsageError(`configuration: convKernel must be at least 2, found ${convKernel}`);
  const stateDim = fields.positiveInteger('stateDim', USUAL_STATES);
  return { stateDim, stateHeadDim, expand, stateGroups, convKernel };
}

/** Widths that follow from the fields. */
function widthsOf(config: Shape & StateSpaceFields): { inner: number; heads: number; shared: number } {
  const inner = config.expand * config.dim;
  return { inner, heads: inner / config.stateHeadDim, shared: config.stateGroups * config.stateDim };
}

interface Convolved {
  readonly projection: tf.Variable;
  /** [D, 1, K] */
  readonly taps: tf.Variable;
  readonly bias: tf.Variable;
}

interface StateSpaceParameters {
  /** z, whose silu gates the output. */
  readonly gate: tf.Variable;
  readonly x: Convolved;
  readonly b: Convolved;
  readonly c: Convolved;
  readonly dt: tf.Variable;
  readonly dtBias: tf.Variable;
  readonly aLog: tf.Variable;
  readonly skip: tf.Variable;
  readonly norm: tf.Variable;
  readonly out: tf.Variable;
}

/** What mixes positions; each [B, T, ...]. */
type Mixed = [x: tf.Tensor3D, b: tf.Tensor3D, c: tf.Tensor3D, dt: tf.Tensor3D];

class Mamba2 implements Mixer<StateMemory> {
  constructor(
    private readonly own: StateSpaceParameters,
    private readonly heads: number,
    private readonly groups: number,
    private readonly normEps: number,
  ) {}

  get weights(): tf.Variable[] {
    const { gate, x, b, c, dt, dtBias, aLog, skip, norm, out } = this.own;
    const convolved = [x, b, c].flatMap(({ projection, taps, bias }) => [projection, taps, bias]);
    return [gate, ...convolved, dt, dtBias, aLog, skip, norm, out];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: StateMemory, readout: Readout): tf.Tensor3D {
    const { gate, norm, out } = this.own;
    const gated = tf.tidy(() => {
      const { x: values, b, c, dt } = this.own;
      const projections = linearGroup(x, [gate, values.projection, b.projection, c.projection, dt]);
      const [z, ...inputs] = projections as [tf.Tensor3D, ...Mixed];
      const mixed = memory.advance(inputs, rows, (inputs, state) =>
        this.advance(inputs, state),
      ) as tf.Tensor4D;
      const read = mergeHeads(mixed);
      readout.offer(() => tf.clone(read));
      return this.normed(swiglu(z, read), norm);
    });
    return linear(gated, out, residual) as tf.Tensor3D;
  }

  /** The state is S [B, H, N, P] and the last inputs of each convolution, [B, K - 1, 1, D]. */
  private advance(
    [x, b, c, dt]: Mixed,
    [space, ...last]: readonly tf.Tensor4D[],
  ): { output: tf.Tensor4D; state: tf.Tensor4D[] } {
    const { own, heads, groups } = this;
    const convolve = (
      input: tf.Tensor3D,
      { taps, bias }: Convolved,
      i: number,
    ): [tf.Tensor3D, tf.Tensor4D] => {
      const before = last[i] && reshape<tf.Rank.R3>(last[i], [input.shape[0], -1, input.shape[2]]);
      const options = { bias: bias as tf.Tensor as tf.Tensor1D, silu: true, state: before };
      const { output, state } = shortConvolution(input, taps as tf.Tensor as tf.Tensor3D, options);
      input.dispose();
      return [output, tf.expandDims(state, 2)];
    };
    const [values, afterX] = convolve(x, own.x, 0);
    const [keys, afterB] = convolve(b, own.b, 1);
    const [queries, afterC] = convolve(c, own.c, 2);
    const vector = (variable: tf.Variable): tf.Tensor1D => variable as tf.Tensor as tf.Tensor1D;
    const { output, state } = stateSpaceDual(
      { x: splitHeads(values, heads), dt, b: splitHeads(keys, groups), c: splitHeads(queries, groups) },
      { dtBias: vector(own.dtBias), aLog: vector(own.aLog), skip: vector(own.skip) },
      { state: space },
    );
    return { output, state: [state, afterX, afterB, afterC] };
  }

  /** The norm over each group of heads. */
  private normed(x: tf.Tensor3D, weight: tf.Variable): tf.Tensor3D {
    if (this.groups === 1) return rmsNorm(x, weight, this.normEps);
    const normed = mergeHeads(rmsNorm(splitHeads(x, this.groups), null, this.normEps));
    return tf.mul(normed, weight);
  }
}

export const mamba2: MixerDefinition<StateSpaceFields, StateMemory> = {
  label: 'Mamba-2',
  fields: readStateSpace,
  parameters(config) {
    const { dim, convKernel } = config;
    const { inner, heads, shared } = widthsOf(config);
    const vector = (name: string, official: ParameterInput['official']): ParameterInput => ({
      name,
      shape: [heads],
      role: 'other',
      official,
    });
    const convolved = (name: string, width: number): ParameterInput[] => {
      // As PyTorch starts a depthwise convolution.
      const official = { kind: 'uniform', bound: convKernel ** -0.5 } as const;
      return [
        matrix(`${name}_proj`, width, dim),
        { name: `${name}_conv1d`, shape: [width, 1, convKernel], role: 'other', official },
        { name: `${name}_conv1d_bias`, shape: [width], role: 'other', official },
      ];
    };
    return [
      matrix('z_proj', inner, dim),
      ...convolved('x', inner),
      ...convolved('b', shared),
      ...convolved('c', shared),
      matrix('dt_proj', heads, dim),
      vector('dt_bias', { kind: 'inverse-softplus', from: 0.001, to: 0.1 }),
      vector('a_log', { kind: 'log-uniform', from: 1, to: 16 }),
      vector('d', { kind: 'ones' }),
      norm('norm', inner),
      matrix('out_proj', dim, inner, 'output'),
    ];
  },
  build(config, weight) {
    const convolved = (name: string): Convolved => ({
      projection: weight(`${name}_proj`),
      taps: weight(`${name}_conv1d`),
      bias: weight(`${name}_conv1d_bias`),
    });
    const own: StateSpaceParameters = {
      gate: weight('z_proj'),
      x: convolved('x'),
      b: convolved('b'),
      c: convolved('c'),
      dt: weight('dt_proj'),
      dtBias: weight('dt_bias'),
      aLog: weight('a_log'),
      skip: weight('d'),
      norm: weight('norm'),
      out: weight('out_proj'),
    };
    return new Mamba2(own, widthsOf(config).heads, config.stateGroups, config.normEps);
  },
  memory: () => new RecurrentState(),
  present: () => new PresentState(),
  readoutWidth: (config) => widthsOf(config).inner,
  activationWidth(config) {
    // The stream and its norm; the gate, the convolved x, what is read out, D x and their sum; B and C.
    const { inner, shared } = widthsOf(config);
    return 2 * config.dim + 5 * inner + 2 * shared;
  },
  keyValueElements: () => 0,
  stateBytes(config, bytesPerElement) {
    const { inner, shared } = widthsOf(config);
    const convolution = (config.convKernel - 1) * (inner + 2 * shared);
    return inner * config.stateDim * STATE_BYTES + convolution * bytesPerElement;
  },
  flops(config) {
    const { dim, stateDim } = config;
    const { inner, heads, shared } = widthsOf(config);
    return {
      projections: 2 * dim * (3 * inner + 2 * shared + heads),
      // In its recurrent form, 4 N P per head; the short convolutions are of lower order.
      mixing: (_, count) => count * 4 * inner * stateDim,
    };
  },
};
