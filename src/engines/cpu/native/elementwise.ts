/** SwiGLU, RMSNorm, AdamW and sums of squares by the kernels in C; formulas in `ops/`. */
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { rowsOf } from '../fused/rows.js';
import type { Native } from './library.js';

export const swiGlu =
  (native: Native): FusedKernel<'SwiGlu', CpuBackend> =>
  ({ a, b }, _, backend) => {
    const y = backend.output(a.shape);
    const arrays = [a, b, y].map((tensor) => backend.floats(tensor));
    backend.launch(() => {
      native.swiglu(...arrays, a.size);
    });
    return [y];
  };

export const swiGluGrad =
  (native: Native): FusedKernel<'SwiGluGrad', CpuBackend> =>
  ({ dy, a, b }, _, backend) => {
    const [da, db] = [backend.output(a.shape), backend.output(b.shape)];
    const inputs = [dy, a, b].map((x) => backend.floats(x));
    native.swiglu_grad(...inputs, backend.floats(da), backend.floats(db), a.size);
    return [da, db];
  };

export const rmsNorm =
  (native: Native): FusedKernel<'RmsNorm', CpuBackend> =>
  ({ x, weight }, { eps }, backend) => {
    const y = backend.output(x.shape);
    const [values, target] = [backend.floats(x), backend.floats(y)];
    const factors = weight ? backend.floats(weight) : null;
    backend.launch(() => {
      native.rms_norm(values, factors, target, ...rowsOf(x), eps);
    });
    return [y];
  };

export const rmsNormGrad =
  (native: Native): FusedKernel<'RmsNormGrad', CpuBackend> =>
  ({ dy, x, weight }, { eps }, backend) => {
    const [rows, width] = rowsOf(x);
    const dx = backend.output(x.shape);
    const dWeight = weight && backend.output([width]);
    const inputs = [backend.floats(dy), backend.floats(x), weight ? backend.floats(weight) : null];
    const outputs = [backend.floats(dx), dWeight ? backend.floats(dWeight) : null];
    native.rms_norm_grad(...inputs, ...outputs, rows, width, eps);
    return dWeight ? [dx, dWeight] : [dx];
  };

/** In place. */
export const adamW =
  (native: Native): FusedKernel<'AdamW', CpuBackend> =>
  (inputs, attrs, backend) => {
    const { learningRate, beta1, beta2, epsilon, weightDecay, step } = attrs;
    const changed = [inputs.parameter, inputs.firstMoment, inputs.secondMoment].map((x) =>
      backend.mutableFloats(x),
    );
    const gradient = backend.floats(inputs.gradient);
    const scale = inputs.scale ? (backend.floats(inputs.scale)[0] ?? 1) : 1;
    const keep = 1 - learningRate * weightDecay;
    const rate = learningRate / (1 - beta1 ** step);
    const correction = 1 / (1 - beta2 ** step);
    const numbers = [scale, beta1, beta2, keep, rate, correction, epsilon];
    native.adamw(...changed, gradient, gradient.length, ...numbers);
    return [];
  };

export const sumOfSquares =
  (native: Native): FusedKernel<'SumOfSquares', CpuBackend> =>
  ({ x }, _, backend) => {
    const y = backend.output([1]);
    native.sum_of_squares(backend.floats(x), backend.floats(y), x.size);
    return [y];
  };
