/** Gated retention: chunks that do and do not divide the sequence, one position, decays of 0, and from its projections. */
import { gatedRetention, logDecay, rotatedRetention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import * as reference from '../reference.js';
import { type KernelCase, floats } from './contract.js';
import { forgettingCases, forgettingGradients, passesNaN, type Recurrence, rows, type Shape, stateOf, usualCases } from './recurrence.js'; // prettier-ignore

type T3 = tf.Tensor3D;
type T4 = tf.Tensor4D;

/** A sequence of several runs, wide heads, and heads of values with a common query and key. */
const SHAPES: readonly Shape[] = [
  { sizes: [1, 2200, 1, 8, 8], withState: true },
  { sizes: [2, 1100, 2, 5, 3], groups: 1, withState: true },
  { sizes: [1, 130, 3, 33, 17] },
  { sizes: [1, 128, 1, 128, 128] },
  { sizes: [1, 150, 2, 256, 200], withState: true },
  ...[[2, 1, 4, 8, 5] as const, [1, 7, 6, 8, 8] as const, [2, 150, 4, 16, 8] as const].flatMap((sizes) =>
    [1, 2].map((groups) => ({ sizes, groups, withState: true })),
  ),
  { sizes: [2, 300, 4, 128, 64], groups: 2, withState: true },
  { sizes: [1, 150, 6, 256, 136], groups: 3, withState: true },
  // What Hopper's own kernels take: several chunks, a partial one, blocks of keys and of values.
  { sizes: [2, 140, 2, 128, 256], groups: 1, withState: true },
  { sizes: [1, 150, 2, 256, 128] },
  { sizes: [1, 300, 1, 256, 256], withState: true },
  { sizes: [2, 700, 2, 64, 64], groups: 1, withState: true },
  { sizes: [1, 260, 2, 64, 192], withState: true },
  { sizes: [1, 150, 1, 192, 64] },
  // So many that the multiprocessors do not suffice, for heads that two warpgroups share and others.
  { sizes: [1, 130, 9, 256, 256], withState: true },
  { sizes: [1, 130, 70, 64, 128], withState: true },
];

const RETENTION: Recurrence = {
  name: 'gatedRetention',
  operands: (make, shape, decay) => [...rows(make, shape), decay, ...stateOf(make, shape)],
  compute: (...[q, k, v, decay, state]) => {
    const options = { state: state as T4 | undefined };
    const retained = gatedRetention(q as T4, k as T4, v as T4, decay as T3, options);
    return [retained.output, retained.state];
  },
  reference: (...inputs) => {
    type A = reference.Array64;
    const { output, state } = reference.retention(...(inputs as [A, A, A, A, A?]));
    return [output, state];
  },
};

// The gradient of the decay is a small difference of large sums.
const TOLERANCE = { float32: 5e-5, bfloat16: 1.6e-2 };
const USUAL = usualCases(RETENTION, SHAPES, { decay: 0.06, most: 1e7, tolerance: TOLERANCE });

/** By the gate's logits, weak and strong. */
const FROM_LOGITS: KernelCase = {
  name: 'gatedRetention with decays from logits',
  inputs: (make) => RETENTION.operands(make, { sizes: [2, 150, 2, 16, 8] }, make.normal([2, 150, 2], 4)),
  compute: (q, k, v, gates) => RETENTION.compute(q, k, v, logDecay(gates as T3, 16)),
  gradients: true,
  tolerance: { float32: 5e-5 },
}; // prettier-ignore

/** [time, key width, value width, with state] */
const PROJECTED = [
  [1, 128, 128, true], [1, 256, 33, false], [7, 50, 70, true], [16, 24, 8, false], [2, 258, 40, true], [30, 64, 64, true],
] as const; // prettier-ignore

const FROM_PROJECTIONS: readonly KernelCase[] = (['interleaved', 'half'] as const).flatMap((style) =>
  PROJECTED.map(([time, key, value, withState]): KernelCase => {
    const frequencies = Float64Array.from({ length: key / 2 }, (_, i) => 10000 ** ((-2 * i) / key));
    const rotation = { start: 1_000_000, frequencies, style };
    return {
      name: `rotatedRetention, ${style}, ${time} positions, ${key} to ${value}`,
      inputs: (make) =>
        RETENTION.operands(
          make,
          { sizes: [2, time, 3, key, value], withState },
          make.normal([2, time, 3], 4),
        ),
      compute: (...[q, k, v, gate, state]) => {
        const options = { rotation, normalizer: 16, state: state as T4 | undefined };
        // Queries and keys are taken over.
        const retained = rotatedRetention(tf.clone(q as T4), tf.clone(k as T4), v as T4, gate as T3, options);
        return [retained.output, retained.state];
      },
    };
  }),
);

/** A gate of -Infinity from its logits, position by position as in decoding. */
const FORGETTING_STEP: KernelCase = {
  name: 'rotatedRetention with a gate that forgets',
  inputs: (make) => {
    const gate = floats([1, 3, 2], (i) => (i < 2 ? -1e4 : 2));
    return RETENTION.operands(make, { sizes: [1, 3, 2, 8, 8], withState: true }, gate);
  },
  compute: (...[q, k, v, gate, state]) => {
    const rotation = { start: 5, frequencies: Float64Array.of(1, 0.3, 0.1, 0.03), style: 'half' as const };
    const options = { rotation, normalizer: 16, state: state as T4 };
    const retained = rotatedRetention(tf.clone(q as T4), tf.clone(k as T4), v as T4, gate as T3, options);
    return [retained.output, retained.state];
  },
};

export const RETENTION_CASES: readonly KernelCase[] = [
  ...USUAL,
  FROM_LOGITS,
  ...forgettingCases(RETENTION),
  ...forgettingGradients(RETENTION),
  passesNaN(RETENTION),
  ...FROM_PROJECTIONS,
  FORGETTING_STEP,
];
