/**
 * The gated memory unit of SambaY (arXiv 2507.06607), which needs no memory of its own: with m what an earlier layer has read
 * out of its state for the same token, y = rmsNorm(m * silu(W1 x)) W2. The norm, with a weight, is that of the authors'
 * code (microsoft/ArchScale, lit_gpt/gated_memory_unit.py) for Mamba-2 and Gated DeltaNet, whose readouts have no norm yet; it is
 * left out there for Mamba-1 only, which is not among the mixers here.
 */
import { linear, rmsNorm, swiglu } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { matrix, norm } from '../initial-values.js';
import type { Rows } from '../layers/heads.js';
import type { Readout } from '../layers/readout.js';
import type { Memory } from '../state/memory.js';
import type { Mixer, MixerDefinition } from './mixer.js';

interface MemoryUnitWeights {
  readonly gate: tf.Variable;
  readonly norm: tf.Variable;
  readonly out: tf.Variable;
}

class GatedMemoryUnit implements Mixer {
  constructor(
    private readonly own: MemoryUnitWeights,
    private readonly normEps: number,
  ) {}

  get weights(): tf.Variable[] {
    const { gate, norm, out } = this.own;
    return [gate, norm, out];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, _rows: Rows, _memory: Memory, readout: Readout): tf.Tensor3D {
    const { gate, norm, out } = this.own;
    const gated = tf.tidy(() =>
      rmsNorm(swiglu(linear(x, gate) as tf.Tensor3D, readout.value), norm, this.normEps),
    );
    return linear(gated, out, residual) as tf.Tensor3D;
  }
}

export const gatedMemory: MixerDefinition = {
  label: 'gated memory unit',
  fields: () => ({}),
  parameters: ({ dim }, readWidth) => [
    matrix('in_proj', readWidth, dim),
    norm('norm', readWidth),
    matrix('out_proj', dim, readWidth, 'output'),
  ],
  build: ({ normEps }, weight) =>
    new GatedMemoryUnit({ gate: weight('in_proj'), norm: weight('norm'), out: weight('out_proj') }, normEps),
  keyValueElements: () => 0,
  stateBytes: () => 0,
  flops: ({ dim }, readWidth) => ({ projections: 2 * 2 * dim * readWidth, mixing: () => 0 }),
};
