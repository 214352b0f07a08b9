/** Gated retention: chunks that do and do not divide the sequence, one position, decays of 0, and from its projections. */
import { gatedRetention, logDecay, rotatedRetention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import * as reference from '../reference.js';
import { type Input, type Inputs, type KernelCase, floats } from './contract.js';

type T3 = tf.Tensor3D;
type T4 = tf.Tensor4D;

interface Retention {
  /** Batch, time, heads, key width, value width. */
  readonly sizes: readonly [number, number, number, number, number];
  readonly withState?: boolean;
  /** Heads of queries and keys; default: as many as of values. */
  readonly groups?: number;
}

const SIZES: readonly Retention[] = [
  ...[[1, 1, 1, 1, 1], [2, 1, 3, 8, 5], [2, 7, 2, 8, 8], [1, 64, 2, 16, 16], [3, 128, 2, 8, 16], [2, 150, 1, 16, 8]].flatMap((sizes) =>
    [false, true].map((withState) => ({ sizes: sizes as unknown as Retention['sizes'], withState })),
  ),
  { sizes: [1, 2200, 1, 8, 8], withState: true },
  { sizes: [1, 128, 1, 128, 128] },
  { sizes: [2, 300, 2, 128, 128], withState: true },
  { sizes: [1, 333, 3, 64, 64], withState: true },
  { sizes: [2, 96, 2, 16, 24], withState: true },
  { sizes: [1, 5, 2, 128, 128], withState: true },
  { sizes: [2, 1, 3, 32, 32], withState: true },
  { sizes: [1, 150, 2, 256, 200], withState: true },
  { sizes: [1, 3, 2, 256, 256], withState: true },
  ...[[2, 1, 4, 8, 5], [1, 7, 6, 8, 8], [2, 150, 4, 16, 8]].flatMap((sizes) =>
    [1, 2].map((groups) => ({ sizes: sizes as unknown as Retention['sizes'], groups, withState: true })),
  ),
  { sizes: [2, 300, 4, 128, 64], groups: 2, withState: true },
  { sizes: [1, 150, 6, 256, 136], groups: 3, withState: true },
]; // prettier-ignore

/** q, k, v and the logarithms of decays, and the state. */
function operands(make: Inputs, { sizes, groups, withState = false }: Retention, decay: Input): Input[] {
  const [batch, time, heads, key, value] = sizes;
  const keys = [batch, time, groups ?? heads, key];
  return [
    make.normal(keys),
    make.normal(keys),
    make.normal([batch, time, heads, value]),
    decay,
    ...(withState ? [make.normal([batch, heads, key, value])] : []),
  ];
}

function retain(...[q, k, v, decay, state]: tf.Tensor[]): tf.Tensor[] {
  const options = { state: state as T4 | undefined };
  const retained = gatedRetention(q as T4, k as T4, v as T4, decay as T3, options);
  return [retained.output, retained.state];
}

function retainReference(...inputs: reference.Array64[]): reference.Array64[] {
  type A = reference.Array64;
  const { output, state } = reference.retention(...(inputs as [A, A, A, A, A?]));
  return [output, state];
}

/** With more, finite differences of the reference take too long. */
const MOST_STEPS = 20_000;
/** With more, so does the plain backend. */
const LARGE = 1e7;

const USUAL: readonly KernelCase[] = SIZES.map((shape) => {
  const { sizes, withState, groups } = shape;
  const [batch, time, heads, key, value] = sizes;
  const work = batch * time * heads * key * value;
  return {
    name: `gatedRetention, ${sizes.join('x')}${groups ? `, ${groups} of keys` : ''}${withState ? ' from a state' : ''}`,
    inputs: (make) => operands(make, shape, make.normal([batch, time, heads], 0.02, -0.06)),
    compute: retain,
    // Without a state there is nothing that the first position's decay acts on.
    cancels: time === 1 && !withState,
    large: work > LARGE,
    ...(work <= MOST_STEPS && { reference: retainReference }),
    gradients: true,
    // The gradient of the decay is a small difference of large sums.
    tolerance: { float32: 5e-5, bfloat16: 1.6e-2 },
  };
});

/** By the gate's logits, weak and strong. */
const FROM_LOGITS: KernelCase = {
  name: 'gatedRetention with decays from logits',
  inputs: (make) => operands(make, { sizes: [2, 150, 2, 16, 8] }, make.normal([2, 150, 2], 4)),
  compute: (q, k, v, gates) => retain(q, k, v, logDecay(gates as T3, 16)),
  gradients: true,
  tolerance: { float32: 5e-5 },
}; // prettier-ignore

/** Logarithms of decays: at every `every`-th position `forgetting`, else weak. */
const decays = (shape: readonly number[], every: number, forgetting: number): Input =>
  floats(shape, (i) => (Math.floor(i / (shape.at(-1) ?? 1)) % every === every - 1 ? forgetting : -0.0625));

/** A decay of 0 forgets all that came before: at a single position, often, at the first, everywhere. */
const FORGETTING: readonly KernelCase[] = [
  { every: 37, forgetting: -Infinity },
  { every: 5, forgetting: -Infinity },
  { every: 1, forgetting: -Infinity },
  { every: 7, forgetting: -1000 },
  { every: 3, forgetting: -40 },
].flatMap(({ every, forgetting }) =>
  [1, 16, 70, 200].map((time): KernelCase => {
    const shape: Retention = { sizes: [1, time, 2, 8, 8], withState: true };
    return {
      name: `gatedRetention of ${time} positions, exp(${forgetting}) at every ${every}th`,
      inputs: (make) => operands(make, shape, decays([1, time, 2], every, forgetting)),
      compute: retain,
      reference: retainReference,
      // What strong decays are summed with keeps fewer digits.
      tolerance: { float32: 2e-4 },
    };
  }),
);

/** Their gradients but that of the decay, for which finite differences of -Infinity are no measure. */
const FORGETTING_GRADIENTS: readonly KernelCase[] = [-Infinity, -1000].map((forgetting) => ({
  name: `gatedRetention, gradients with exp(${forgetting})`,
  inputs: (make) =>
    operands(make, { sizes: [1, 70, 2, 8, 8], withState: true }, decays([1, 70, 2], 9, forgetting)),
  compute: (...tensors) => {
    const [q, k, v, decay, state] = tensors as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
    const f = (...x: tf.Tensor[]): tf.Tensor => {
      const [q, k, v, state] = x as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      return tf.addN(retain(q, k, v, decay, state).map((y) => tf.sum(y)));
    };
    return tf.grads(f)([q, k, v, state]);
  },
  tolerance: { float32: 2e-4 },
}));

const NOT_A_NUMBER: KernelCase = {
  name: 'gatedRetention passes a NaN of the decay on',
  inputs: (make) =>
    operands(
      make,
      { sizes: [1, 70, 1, 8, 8] },
      floats([1, 70, 1], (i) => (i === 20 ? NaN : -0.5)),
    ),
  // Positions behind the NaN; those before it in its chunk may be NaN or not.
  compute: (...tensors) => [
    tf.cast(tf.isNaN(tf.slice(retain(...tensors)[0] as T4, [0, 20, 0, 0])), 'float32'),
  ],
  reference: () => [{ shape: [1, 50, 1, 8], data: new Float64Array(400).fill(1) }],
  exact: true,
  except: { webgpu: 'shaders need not keep NaN' },
};

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
        operands(make, { sizes: [2, time, 3, key, value], withState }, make.normal([2, time, 3], 4)),
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
    return operands(make, { sizes: [1, 3, 2, 8, 8], withState: true }, gate);
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
  ...FORGETTING,
  ...FORGETTING_GRADIENTS,
  NOT_A_NUMBER,
  ...FROM_PROJECTIONS,
  FORGETTING_STEP,
];
