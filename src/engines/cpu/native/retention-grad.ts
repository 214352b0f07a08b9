/** The gradient of gated retention by the kernel in C; formulas in `ops/gated-retention`. */
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { copyState, sizesOf } from '../fused/segments.js';
import type { Native } from './library.js';

export const gatedRetentionGrad =
  (native: Native): FusedKernel<'GatedRetentionGrad', CpuBackend> =>
  (inputs, _, backend) => {
    const { q, k, v, logDecay, state, finalState, dOutput, dFinalState } = inputs;
    const sizes = sizesOf(q, v);
    const { batch, time, heads, groups, key, value } = sizes;
    const rows = [batch, time, heads, key];
    const gradients = [rows, rows, v.shape, logDecay.shape].map((shape) => backend.output(shape));
    const results = [...gradients, copyState(backend, dFinalState, sizes)];
    const before = state ? backend.floats(state) : null;
    const operands = [q, k, v, logDecay].map((tensor) => backend.floats(tensor));
    const others = [finalState, dOutput, ...results].map((tensor) => backend.floats(tensor));
    native.retention_grad(...operands, before, ...others, batch, time, heads, groups, key, value);
    return results;
  };
