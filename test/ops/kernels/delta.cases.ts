/** The gated delta rule: chunks that do and do not divide the sequence, one position, decays of 0, saturated strengths, and its gates. */
import { deltaGates, gatedDeltaRule } from '../../../src/ops/index.js';
import type * as tf from '../../../src/tf.js';
import * as reference from '../reference.js';
import { type Input, type Inputs, type KernelCase, floats } from './contract.js';
import { forgettingCases, forgettingGradients, passesNaN, type Recurrence, rows, type Shape, stateOf, usualCases } from './recurrence.js'; // prettier-ignore

type T1 = tf.Tensor1D;
type T3 = tf.Tensor3D;
type T4 = tf.Tensor4D;

/** Wide keys and values, and a sequence of several runs. */
const SHAPES: readonly Shape[] = [
  { sizes: [1, 1100, 1, 8, 8], withState: true },
  { sizes: [1, 70, 1, 128, 128] },
  { sizes: [1, 100, 2, 96, 200], withState: true },
  { sizes: [1, 80, 1, 256, 64], withState: true },
];

/** Keys of about unit norm. */
const scales = (key: number) => ({ queryScale: 1 / key, keyScale: key ** -0.5 });

/** Strengths between 0 and 1. */
const strengths = (make: Inputs, shape: readonly number[]): Input => {
  const { values } = make.normal(shape, 2);
  return floats(shape, (i) => 1 / (1 + Math.exp(-(values[i] ?? 0))));
};

const RULE: Recurrence = {
  name: 'gatedDeltaRule',
  operands: (make, shape, decay) => [
    ...rows(make, shape),
    decay,
    strengths(make, shape.sizes.slice(0, 3)),
    ...stateOf(make, shape),
  ],
  compute: (...[q, k, v, decay, beta, state]) => {
    const options = { state: state as T4 | undefined, ...scales((q as T4).shape[3]) };
    const result = gatedDeltaRule(q as T4, k as T4, v as T4, decay as T3, beta as T3, options);
    return [result.output, result.state];
  },
  reference: (...inputs) => {
    type A = reference.Array64;
    const [q] = inputs as [A];
    const all = inputs as unknown as [A, A, A, A, A, A?];
    const { output, state } = reference.deltaRule(all, scales(q.shape[3] ?? 1));
    return [output, state];
  },
};

// The gradient of the decay is a small difference of large sums.
const USUAL = usualCases(RULE, SHAPES, { decay: 0.15, most: 5e6, tolerance: { float32: 5e-5 } });

/** Strengths of exactly 0 and 1, without decay; and the same key again and again, whose system is worst conditioned. */
const SATURATED: readonly KernelCase[] = [0, 1, 0.5].map((beta) => ({
  name: `gatedDeltaRule without decay, strengths of ${beta}, one key`,
  inputs: (make) => {
    const shape: Shape = { sizes: [1, 150, 1, 8, 8], withState: true };
    const gates = (value: number): Input => floats([1, 150, 1], () => value);
    const [q, , v] = rows(make, shape) as [Input, Input, Input];
    return [q, floats([1, 150, 1, 8], () => 1), v, gates(0), gates(beta), ...stateOf(make, shape)];
  },
  compute: RULE.compute,
  reference: RULE.reference,
  gradients: true,
  cancels: true,
  // Differences of neighbours: in the emulator 1.5e-2 in bfloat16.
  tolerance: { float32: 2e-4, bfloat16: 3e-2, float16: 4e-3 },
})); // prettier-ignore

const gates = (...[a, b, aLog, dtBias]: tf.Tensor[]): tf.Tensor[] => {
  const { logDecay, beta } = deltaGates({ a: a as T3, b: b as T3, aLog: aLog as T1, dtBias: dtBias as T1 });
  return [logDecay, beta];
};

const gatesReference = (...inputs: reference.Array64[]): reference.Array64[] => {
  type A = reference.Array64;
  return reference.deltaGates(...(inputs as [A, A, A, A]));
};

const GATES: readonly KernelCase[] = [
  [1, 1, 1],
  [2, 7, 3],
  [1, 300, 6],
].map((shape) => ({
  name: `deltaGates, ${shape.join('x')}`,
  inputs: (make) => {
    const heads = [shape[2] ?? 1];
    return [make.normal(shape, 2), make.normal(shape, 2), make.normal(heads), make.normal(heads)];
  },
  compute: gates,
  reference: gatesReference,
  gradients: true,
}));

/** Every value held to its own size where gates are closed or open. */
const SATURATED_GATES: KernelCase = {
  name: 'deltaGates, logits from -80 to 80',
  inputs: () => [
    floats([1, 1, 41], (i) => 4 * (i - 20)),
    floats([1, 1, 41], (i) => 4 * (i - 20)),
    floats([41], () => 0.5),
    floats([41], () => 0),
  ],
  compute: gates,
  reference: gatesReference,
  gradients: true,
  elementwise: true,
  except: { webgpu: 'tfjs computes log(1 + x) there for small x' },
};

export const DELTA_CASES: readonly KernelCase[] = [
  ...USUAL,
  ...forgettingCases(RULE),
  ...forgettingGradients(RULE),
  ...SATURATED,
  passesNaN(RULE),
  ...GATES,
  SATURATED_GATES,
];
