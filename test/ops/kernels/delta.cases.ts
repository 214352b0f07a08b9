/** The gated delta rule: chunks that do and do not divide the sequence, one position, decays of 0, saturated strengths, and its gates. */
import { deltaGates, gatedDeltaRule } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import * as reference from '../reference.js';
import { type Input, type Inputs, type KernelCase, floats } from './contract.js';

type T1 = tf.Tensor1D;
type T3 = tf.Tensor3D;
type T4 = tf.Tensor4D;

interface Delta {
  /** Batch, time, heads, key width, value width. */
  readonly sizes: readonly [number, number, number, number, number];
  readonly withState?: boolean;
}

const SIZES: readonly Delta[] = [
  ...[[1, 1, 1, 1, 1], [2, 1, 3, 8, 5], [2, 7, 2, 8, 8], [1, 64, 2, 16, 16], [2, 128, 2, 8, 16], [2, 150, 1, 16, 8]].flatMap((sizes) =>
    [false, true].map((withState) => ({ sizes: sizes as unknown as Delta['sizes'], withState })),
  ),
  { sizes: [1, 1100, 1, 8, 8], withState: true },
  { sizes: [1, 70, 1, 128, 128] },
  { sizes: [2, 300, 2, 128, 128], withState: true },
  { sizes: [1, 333, 3, 64, 64], withState: true },
  { sizes: [2, 96, 2, 16, 24], withState: true },
  { sizes: [1, 5, 2, 128, 128], withState: true },
  { sizes: [2, 1, 3, 32, 32], withState: true },
  { sizes: [1, 100, 2, 96, 200], withState: true },
  { sizes: [1, 3, 2, 256, 256], withState: true },
  { sizes: [1, 80, 1, 256, 64], withState: true },
]; // prettier-ignore

/** Keys of about unit norm. */
const scales = (key: number) => ({ queryScale: 1 / key, keyScale: key ** -0.5 });

/** Strengths between 0 and 1. */
const strengths = (make: Inputs, shape: readonly number[]): Input => {
  const { values } = make.normal(shape, 2);
  return floats(shape, (i) => 1 / (1 + Math.exp(-(values[i] ?? 0))));
};

/** q, k, v, the logarithms of decays, strengths, and the state. */
function operands(make: Inputs, { sizes, withState = false }: Delta, decay: Input, beta?: Input): Input[] {
  const [batch, time, heads, key, value] = sizes;
  return [
    make.normal([batch, time, heads, key]),
    make.normal([batch, time, heads, key]),
    make.normal([batch, time, heads, value]),
    decay,
    beta ?? strengths(make, [batch, time, heads]),
    ...(withState ? [make.normal([batch, heads, key, value])] : []),
  ];
}

function apply(...[q, k, v, decay, beta, state]: tf.Tensor[]): tf.Tensor[] {
  const options = { state: state as T4 | undefined, ...scales((q as T4).shape[3]) };
  const result = gatedDeltaRule(q as T4, k as T4, v as T4, decay as T3, beta as T3, options);
  return [result.output, result.state];
}

function applyReference(...inputs: reference.Array64[]): reference.Array64[] {
  type A = reference.Array64;
  const [q] = inputs as [A];
  const { output, state } = reference.deltaRule(
    inputs as unknown as [A, A, A, A, A, A?],
    scales(q.shape[3] ?? 1),
  );
  return [output, state];
}

/** With more, finite differences of the reference take too long. */
const MOST_STEPS = 20_000;
/** With more, so does the plain backend. */
const LARGE = 5e6;

const USUAL: readonly KernelCase[] = SIZES.map((shape) => {
  const { sizes, withState } = shape;
  const [batch, time, heads, key, value] = sizes;
  const work = batch * time * heads * key * value;
  return {
    name: `gatedDeltaRule, ${sizes.join('x')}${withState ? ' from a state' : ''}`,
    inputs: (make) => operands(make, shape, make.normal([batch, time, heads], 0.05, -0.15)),
    compute: apply,
    // Without a state there is nothing that the first position's decay acts on.
    cancels: time === 1 && !withState,
    large: work > LARGE,
    ...(work <= MOST_STEPS && { reference: applyReference }),
    gradients: true,
    // The gradient of the decay is a small difference of large sums.
    tolerance: { float32: 5e-5 },
  };
});

/** Logarithms of decays: at every `every`-th position `forgetting`, else weak. */
const decays = (shape: readonly number[], every: number, forgetting: number): Input =>
  floats(shape, (i) => (Math.floor(i / (shape.at(-1) ?? 1)) % every === every - 1 ? forgetting : -0.0625));

/** A decay of 0 forgets all that came before: at a single position, often, everywhere. */
const FORGETTING: readonly KernelCase[] = [
  { every: 37, forgetting: -Infinity },
  { every: 5, forgetting: -Infinity },
  { every: 1, forgetting: -Infinity },
  { every: 7, forgetting: -1000 },
  { every: 3, forgetting: -40 },
].flatMap(({ every, forgetting }) =>
  [1, 16, 70, 200].map((time): KernelCase => {
    const shape: Delta = { sizes: [1, time, 2, 8, 8], withState: true };
    return {
      name: `gatedDeltaRule of ${time} positions, exp(${forgetting}) at every ${every}th`,
      inputs: (make) => operands(make, shape, decays([1, time, 2], every, forgetting)),
      compute: apply,
      reference: applyReference,
      // What strong decays are summed with keeps fewer digits.
      tolerance: { float32: 2e-4 },
    };
  }),
);

/** Their gradients but that of the decay, for which finite differences of -Infinity are no measure. */
const FORGETTING_GRADIENTS: readonly KernelCase[] = [-Infinity, -1000].map((forgetting) => ({
  name: `gatedDeltaRule, gradients with exp(${forgetting})`,
  inputs: (make) =>
    operands(make, { sizes: [1, 70, 2, 8, 8], withState: true }, decays([1, 70, 2], 9, forgetting)),
  compute: (...tensors) => {
    const [q, k, v, decay, ...rest] = tensors as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
    const f = (...[q, k, v, ...rest]: tf.Tensor[]): tf.Tensor =>
      tf.addN(apply(q as tf.Tensor, k as tf.Tensor, v as tf.Tensor, decay, ...rest).map((y) => tf.sum(y)));
    return tf.grads(f)([q, k, v, ...rest]);
  },
  tolerance: { float32: 2e-4 },
}));

/** Strengths of exactly 0 and 1, without decay; and the same key again and again, whose system is worst conditioned. */
const SATURATED: readonly KernelCase[] = [0, 1, 0.5].map((beta) => ({
  name: `gatedDeltaRule without decay, strengths of ${beta}, one key`,
  inputs: (make) => {
    const shape: Delta = { sizes: [1, 150, 1, 8, 8], withState: true };
    const [q, , v, decay, strength, state] = operands(
      make,
      shape,
      floats([1, 150, 1], () => 0),
      floats([1, 150, 1], () => beta),
    ) as [Input, Input, Input, Input, Input, Input];
    return [q, floats([1, 150, 1, 8], () => 1), v, decay, strength, state];
  },
  compute: apply,
  reference: applyReference,
  gradients: true,
  cancels: true,
  // Differences of neighbours: in the emulator 1.5e-2 in bfloat16.
  tolerance: { float32: 2e-4, bfloat16: 3e-2, float16: 4e-3 },
})); // prettier-ignore

const NOT_A_NUMBER: KernelCase = {
  name: 'gatedDeltaRule passes a NaN of the decay on',
  inputs: (make) =>
    operands(
      make,
      { sizes: [1, 70, 1, 8, 8] },
      floats([1, 70, 1], (i) => (i === 20 ? NaN : -0.5)),
    ),
  // Positions behind the NaN; those before it in its chunk may be NaN or not.
  compute: (...tensors) => [
    tf.cast(tf.isNaN(tf.slice(apply(...tensors)[0] as T4, [0, 20, 0, 0])), 'float32'),
  ],
  reference: () => [{ shape: [1, 50, 1, 8], data: new Float64Array(400).fill(1) }],
  exact: true,
  except: { webgpu: 'shaders need not keep NaN' },
};

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
  ...FORGETTING,
  ...FORGETTING_GRADIENTS,
  ...SATURATED,
  NOT_A_NUMBER,
  ...GATES,
  SATURATED_GATES,
];
