/** The gated delta rule and its gradient; `ops/gated-delta-rule`. The graphs are in `delta-graph.ts`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { DeltaAttributes, FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { forwardGraph, gradientGraph, stateGraph } from './delta-graph.js';
import { CHUNK, copyState, future, past, type Recurrence, Segments, type Sizes, sizesOf, sumOverLater } from './segments.js'; // prettier-ignore
import { padding } from './unit-triangular.js';

/** Up to this many positions the recurrence is faster. */
const FEW_POSITIONS = 3;

function recurrence(backend: CpuBackend, { key, value }: Sizes, attrs: DeltaAttributes): Recurrence {
  return {
    graphs({ size }) {
      const options = { ...attrs, isWhole: size === CHUNK };
      return {
        name: `GatedDeltaRule/${attrs.queryScale}/${attrs.keyScale}${options.isWhole ? '' : '/padded'}`,
        forward: () => forwardGraph(options),
        state: () => stateGraph(options),
        gradient: () => gradientGraph(options),
      };
    },
    constants: ({ size }) => ({
      within: future(backend, size),
      below: past(backend, size),
      ...padding(backend, size),
    }),
    taken: [key, value],
    returned: [key, value],
  };
}

type Operands = Readonly<Record<'q' | 'k' | 'v' | 'logDecay' | 'beta', TensorInfo>>;

export const gatedDeltaRule: FusedKernel<'GatedDeltaRule', CpuBackend> = (inputs, attrs, backend) => {
  const { q, k, v, logDecay, beta } = inputs;
  const sizes = sizesOf(q, v);
  const output = backend.output(v.shape);
  const state = copyState(backend, inputs.state, sizes);
  if (sizes.time <= FEW_POSITIONS) steps(backend, inputs, attrs, state, output);
  else {
    const segments = new Segments(backend, sizes, recurrence(backend, sizes, attrs));
    segments.forward({ q, k, v, logDecay, beta }, state, output);
  }
  return [output, state];
};

/** A few positions, by the recurrence itself. */
function steps(
  backend: CpuBackend,
  { q, k, v, logDecay, beta }: Operands,
  { queryScale, keyScale }: DeltaAttributes,
  state: TensorInfo,
  output: TensorInfo,
): void {
  const { batch, time, heads, key, value } = sizesOf(q, v);
  const [queries, keys, values, gates, betas, s, out] = [q, k, v, logDecay, beta, state, output].map(
    (tensor) => backend.floats(tensor),
  ) as [Floats, Floats, Floats, Floats, Floats, Floats, Floats];
  const change = new Float64Array(value);
  for (let row = 0; row < batch * time * heads; row++) {
    const head = Math.floor(row / (time * heads)) * heads + (row % heads);
    const first = head * key * value;
    const decay = Math.exp(gates[row] as number);
    for (let j = 0; j < value; j++) change[j] = values[row * value + j] as number;
    for (let i = 0; i < key; i++) {
      const factor = (keys[row * key + i] as number) * keyScale;
      for (let j = 0; j < value; j++) {
        const kept = (s[first + i * value + j] as number) * decay;
        s[first + i * value + j] = kept;
        change[j] = (change[j] as number) - factor * kept;
      }
    }
    const sums = out.subarray(row * value, (row + 1) * value).fill(0);
    for (let i = 0; i < key; i++) {
      const query = (queries[row * key + i] as number) * queryScale;
      const factor = (keys[row * key + i] as number) * keyScale * (betas[row] as number);
      for (let j = 0; j < value; j++) {
        const next = (s[first + i * value + j] as number) + factor * (change[j] as number);
        s[first + i * value + j] = next;
        sums[j] = (sums[j] as number) + query * next;
      }
    }
  }
}

export const gatedDeltaRuleGrad: FusedKernel<'GatedDeltaRuleGrad', CpuBackend> = (inputs, attrs, backend) => {
  const { q, k, v, logDecay, beta, state, dOutput, dFinalState } = inputs;
  const sizes = sizesOf(q, v);
  const [dq, dk, dv] = [backend.output(q.shape), backend.output(k.shape), backend.output(v.shape)];
  const [balance, dBeta] = [backend.output(logDecay.shape), backend.output(beta.shape)];
  const dState = copyState(backend, dFinalState, sizes);
  const segments = new Segments(backend, sizes, recurrence(backend, sizes, attrs));
  const gradients = { dq, dk, dv, dBeta, balance };
  segments.gradient({ q, k, v, logDecay, beta, dOutput }, state, dState, gradients);
  sumOverLater(backend, balance, inputs);
  return [dq, dk, dv, balance, dBeta, dState];
};
