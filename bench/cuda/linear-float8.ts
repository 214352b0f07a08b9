/**
 * Products of YOCO-3B in bfloat16 and with weights in float8, for a chunk of a prefill and for a step: milliseconds of a call and TFLOP/s
 * after half a second of the same, and the kernels of which the calls in float8 are made, with their bytes a second where memory bounds
 * them.
 */
import { startCuda } from '../../src/engines/cuda/index.js';
import { keepInFloat8, linear, linearGroup, linearSwiglu } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { type KernelTime, callTimes, cudaBackend } from './kernel-times.js';

const [WIDTH, HIDDEN] = [3072, 8192];
const ROWS = [8192, 1, 4, 8];
const WARM_MS = 500;
const RUNS = 20;
/** Milliseconds of copies ahead, for the host to get ahead. */
const BACKLOG = 20;

await startCuda({ storage: 'bfloat16' });

/** Random rows, the same again and again. */
function random(rows: number, width: number, scale = 1): tf.Tensor {
  return tf.tidy(() => {
    const few = tf.randomNormal([Math.min(rows, 64), width], 0, scale);
    return tf.tile(few, [rows / Math.min(rows, 64), 1]);
  });
}

const weightsOf = (count: number, out: number, inner: number, float8: boolean): tf.Variable[] =>
  Array.from({ length: count }, () => {
    const weight = tf.variable(random(out, inner, inner ** -0.5), false);
    if (float8) keepInFloat8(weight);
    return weight;
  });

interface Product {
  readonly inner: number;
  readonly out: number;
  readonly count: number;
  /** x comes in float8 alone. */
  readonly rounded?: boolean;
  readonly call: (
    x: tf.Tensor,
    weights: readonly tf.Tensor[],
    residual: tf.Tensor,
  ) => tf.Tensor | tf.Tensor[];
}

const PRODUCTS: Readonly<Record<string, Product>> = {
  'four projections': { inner: WIDTH, out: WIDTH, count: 4, call: linearGroup },
  'projection and residual': {
    ...{ inner: WIDTH, out: WIDTH, count: 1 },
    call: (x, [weight], residual) => linear(x, weight as tf.Tensor, residual),
  },
  SwiGLU: {
    ...{ inner: WIDTH, out: HIDDEN, count: 2 },
    call: (x, [activated, gate]) => linearSwiglu(x, activated as tf.Tensor, gate as tf.Tensor),
  },
  'down and residual': {
    ...{ inner: HIDDEN, out: WIDTH, count: 1, rounded: true },
    call: (x, [weight], residual) => linear(x, weight as tf.Tensor, residual),
  },
};

/** Kernels of a call after some time of the same. */
function sustained(call: () => tf.Tensor | tf.Tensor[]): KernelTime[] {
  const { driver } = cudaBackend().device;
  const end = performance.now() + WARM_MS;
  while (performance.now() < end) {
    for (let i = 0; i < RUNS; i++) tf.dispose(tf.tidy(call));
    driver.synchronize();
  }
  return callTimes(call, { runs: RUNS, backlog: BACKLOG }).map(({ name, count, milliseconds }) => ({
    ...{ name, count: count / RUNS },
    milliseconds: milliseconds / RUNS,
  }));
}

const total = (times: readonly KernelTime[]): number =>
  times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);

/** Bytes that a kernel reads and writes in a call; null for what arithmetic bounds. */
function bytesOf(name: string, rows: number, { inner, out, count }: Product): number | null {
  if (name.startsWith('round_rows')) return 3 * rows * inner;
  if (name.startsWith('swiglu_rows')) return 5 * rows * out;
  return name.startsWith('gemv') ? count * inner * out : null;
}

for (const rows of ROWS) {
  const sums = { bfloat16: 0, float8: 0 };
  for (const [name, product] of Object.entries(PRODUCTS)) {
    const { inner, out, count, rounded, call } = product;
    const [x, residual] = [random(rows, inner), random(rows, out)];
    const flops = 2 * rows * inner * out * count;
    for (const type of ['bfloat16', 'float8'] as const) {
      const weights = weightsOf(count, out, inner, type === 'float8');
      if (rounded && type === 'float8') cudaBackend().keepFloat8(x);
      const times = sustained(() => {
        // As if x were new: what was rounded before is dropped.
        if (!rounded && type === 'float8') cudaBackend().writable(x);
        return call(x, weights, residual);
      });
      sums[type] += total(times);
      const [ms, rate] = [total(times), (flops / total(times)) * 1e-9];
      process.stdout.write(
        `${rows} rows, ${name}, ${type}: ${ms.toFixed(4)} ms, ${rate.toFixed(1)} TFLOP/s\n`,
      );
      for (const { name: kernel, count: launches, milliseconds } of times) {
        const bytes = bytesOf(kernel, rows, product);
        const speed = bytes === null ? '' : `, ${(bytes / milliseconds / 1e6).toFixed(0)} GB/s`;
        process.stdout.write(
          `    ${kernel}: ${launches} in ${(1000 * milliseconds).toFixed(1)} µs${speed}\n`,
        );
      }
      tf.dispose(weights);
    }
    tf.dispose([x, residual]);
  }
  const ratio = (sums.bfloat16 / sums.float8).toFixed(2);
  process.stdout.write(
    `${rows} rows, all: ${sums.bfloat16.toFixed(3)} and ${sums.float8.toFixed(3)} ms, ${ratio} times as fast\n`,
  );
}
