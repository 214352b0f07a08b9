/** Gated retention and its gradient; `ops/gated-retention`. The graphs are in `retention-graph.ts`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { forwardGraph, gradientGraph, stateGraph } from './retention-graph.js';
import {
  copyState,
  future,
  type Recurrence,
  Segments,
  type Sizes,
  sizesOf,
  sumOverLater,
} from './segments.js';

function recurrence(backend: CpuBackend, sizes: Sizes): Recurrence {
  const { heads, groups, key, value } = sizes;
  const name = `GatedRetention/${key}/${value}${heads === groups ? '' : `/${heads}/${groups}`}`;
  return {
    graphs: () => ({
      name,
      forward: () => forwardGraph(sizes),
      state: () => stateGraph(sizes),
      gradient: () => gradientGraph(sizes),
    }),
    constants: ({ size, count }) => ({ within: future(backend, size), between: future(backend, count + 1) }),
    taken: [1, key, value],
    returned: [1, key * value],
  };
}

export const gatedRetention: FusedKernel<'GatedRetention', CpuBackend> = (inputs, _, backend) => {
  const { q, k, v, logDecay } = inputs;
  const sizes = sizesOf(q, v);
  const output = backend.output(v.shape);
  const state = copyState(backend, inputs.state, sizes);
  if (sizes.time === 1) step(backend, inputs, state, output);
  else new Segments(backend, sizes, recurrence(backend, sizes)).forward({ q, k, v, logDecay }, state, output);
  return [output, state];
};

/** One position, by the recurrence itself. */
function step(
  backend: CpuBackend,
  { q, k, v, logDecay }: Record<'q' | 'k' | 'v' | 'logDecay', TensorInfo>,
  state: TensorInfo,
  output: TensorInfo,
): void {
  const { batch, heads, groups, key, value } = sizesOf(q, v);
  const [queries, keys, values] = [backend.floats(q), backend.floats(k), backend.floats(v)];
  const [gates, s, out] = [backend.floats(logDecay), backend.floats(state), backend.floats(output)];
  const scale = key ** -0.5;
  out.fill(0);
  for (let head = 0; head < batch * heads; head++) {
    const decay = Math.exp(gates[head] as number);
    const shared = Math.floor(head / (heads / groups)) * key;
    for (let i = 0; i < key; i++) {
      const query = queries[shared + i] as number;
      const factor = (keys[shared + i] as number) * scale;
      const row = (head * key + i) * value;
      for (let j = 0; j < value; j++) {
        const at = head * value + j;
        const next = (s[row + j] as number) * decay + factor * (values[at] as number);
        s[row + j] = next;
        out[at] = (out[at] as number) + query * next;
      }
    }
  }
}

export const gatedRetentionGrad: FusedKernel<'GatedRetentionGrad', CpuBackend> = (inputs, _, backend) => {
  const { q, k, v, logDecay, state, dOutput, dFinalState } = inputs;
  const sizes = sizesOf(q, v);
  const { batch, time, heads, key } = sizes;
  const [dq, dk] = [backend.output([batch, time, heads, key]), backend.output([batch, time, heads, key])];
  const [dv, balance] = [backend.output(v.shape), backend.output(logDecay.shape)];
  const dState = copyState(backend, dFinalState, sizes);
  const segments = new Segments(backend, sizes, recurrence(backend, sizes));
  segments.gradient({ q, k, v, logDecay, dOutput }, state, dState, { dq, dk, dv, balance });
  sumOverLater(backend, balance, inputs);
  return [dq, dk, dv, balance, dState];
};
