/**
 * Kernels bound by memory, at the shapes of training and of a prefill in bfloat16: microseconds of a launch and the bytes that must be
 * moved by the time, in TB/s. Words given after the script choose kernels.
 */
import { startCuda } from '../../src/engines/cuda/index.js';
import {
  causalAttention,
  embedding,
  gatedRmsNorm,
  preNorm,
  rmsNorm,
  rotary,
  rotaryPair,
  weightedCrossEntropy,
} from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { callTimes } from './kernel-times.js';

const RUNS = 20;
/** Milliseconds of copies ahead, for the host to get ahead. */
const BACKLOG = 40;
const EPS = 1e-5;
const words = process.argv.slice(2);

await startCuda({ storage: 'bfloat16' });

type Work = () => tf.Tensor | tf.Tensor[];

/** @param kernels patterns of names, and the bytes that a launch must move; others that the work launches are left out */
function report(shape: string, kernels: Readonly<Record<string, number>>, work: Work): void {
  const wanted = Object.entries(kernels).filter(
    ([kernel]) => words.length === 0 || words.some((word) => kernel.includes(word)),
  );
  if (wanted.length === 0) return;
  const times = callTimes(work, { runs: RUNS, backlog: BACKLOG });
  for (const [kernel, bytes] of wanted) {
    const pattern = new RegExp(`^(${kernel})$`);
    for (const { name, count, milliseconds } of times.filter(({ name }) => pattern.test(name))) {
      const seconds = milliseconds / 1000 / count;
      const rate = bytes === 0 ? '' : `, ${(bytes / seconds / 1e12).toFixed(2)} TB/s`;
      process.stdout.write(`${name}, ${shape}: ${(1e6 * seconds).toFixed(1)} µs${rate}\n`);
    }
  }
}

const random = (...shape: number[]): tf.Tensor => tf.randomNormal(shape);
const size = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

function norms(rows: number, width: number): void {
  const [x, dy, weight] = [random(rows, width), random(rows, width), random(width)];
  const bytes = 2 * rows * width;
  const kernels = { 'rms_norm_grad.*': 3 * bytes, 'rms_norm_gain|columns_.*': 0 };
  report(`${rows} × ${width}`, { 'rms_norm.*': 2 * bytes }, () => rmsNorm(x, weight, EPS));
  report(`${rows} × ${width}`, kernels, () =>
    tf.grads((x: tf.Tensor, weight: tf.Tensor) => rmsNorm(x, weight, EPS))([x, weight], dy),
  );
  // Both results have a gradient.
  const layer = (x: tf.Tensor, weight: tf.Tensor): tf.Tensor => tf.add(...preNorm(x, weight, EPS));
  report(`${rows} × ${width}, and of the residual`, { 'rms_norm_grad.*': 4 * bytes }, () =>
    tf.grads(layer)([x, weight], dy),
  );
  tf.dispose([x, dy, weight]);
}

function headNorms(rows: number, width: number): void {
  const [x, gate, dy] = [random(rows, width), random(rows, width), random(rows, width)];
  const bytes = 2 * rows * width;
  report(`${rows} × ${width}, gated`, { 'rms_norm.*': 3 * bytes }, () => gatedRmsNorm(x, gate, EPS));
  report(`${rows} × ${width}, no weight`, { 'rms_norm_grad.*': 3 * bytes }, () =>
    tf.grad((x: tf.Tensor) => rmsNorm(x, null, EPS))(x, dy),
  );
  tf.dispose([x, gate, dy]);
}

function rotations(batch: number, time: number, heads: number, width: number): void {
  const shape = [batch, time, heads, width];
  const [q, k] = [random(...shape) as tf.Tensor4D, random(...shape) as tf.Tensor4D];
  const frequencies = Float64Array.from({ length: width / 2 }, (_, i) => 10000 ** ((-2 * i) / width));
  const bytes = 4 * size(shape);
  for (const style of ['interleaved', 'half'] as const) {
    const options = { frequencies, style };
    const kernel = `rotary_${style}(_narrow)?`;
    report(shape.join(' × '), { [kernel]: bytes }, () => rotary(q, options));
    report(`${shape.join(' × ')}, two`, { [kernel]: 2 * bytes }, () => rotaryPair(q, k, options));
  }
  tf.dispose([q, k]);
}

function attention(batch: number, time: number, heads: number, width: number): void {
  const shape = [batch, time, heads, width];
  const [q, k, v, dy] = [random(...shape), random(...shape), random(...shape), random(...shape)];
  const attend = (...inputs: tf.Tensor[]): tf.Tensor =>
    causalAttention(...(inputs as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D]));
  const bytes = 4 * size(shape) + 4 * batch * time * heads;
  report(shape.join(' × '), { attention_delta: bytes }, () => tf.grads(attend)([q, k, v], dy));
  tf.dispose([q, k, v, dy]);
}

/** @param logitBytes of a logit in the loss */
function losses(rows: number, width: number, vocabulary: number, logitBytes: number): void {
  const [x, weight] = [random(rows, width), tf.mul(random(vocabulary, width), 0.02)];
  const targets = tf.randomUniform<tf.Rank.R1>([rows], 0, vocabulary, 'int32');
  const logits = rows * vocabulary;
  const kernels = {
    'cross_entropy(_raw)?(_narrow)?': logits * logitBytes,
    'cross_entropy_grad(_raw)?': logits * (logitBytes + 2),
    cast_raw_float32: vocabulary * width * 6,
  };
  const loss = (x: tf.Tensor, weight: tf.Tensor): tf.Scalar =>
    weightedCrossEntropy(x as tf.Tensor2D, weight as tf.Tensor2D, targets, null).total;
  report(`${rows} × ${vocabulary}`, kernels, () => tf.grads(loss)([x, weight]));
  tf.dispose([x, weight, targets]);
}

function embeddings(rows: number, width: number, vocabulary: number): void {
  const [weight, dy] = [random(vocabulary, width), random(rows, width)];
  const ids = tf.randomUniform<tf.Rank.R1>([rows], 0, vocabulary, 'int32');
  const shape = `${rows} × ${width} of ${vocabulary}`;
  report(shape, { embedding: 4 * rows * width }, () => embedding(weight, ids));
  const kernels = {
    'embedding_(count|place|order|grad_finish)': 0,
    embedding_grad: 2 * width * (rows + vocabulary),
  };
  report(shape, kernels, () => tf.grad((weight: tf.Tensor) => embedding(weight, ids))(weight, dy));
  tf.dispose([weight, dy, ids]);
}

for (const [rows, width] of [[32768, 768], [65536, 256], [8192, 256], [8192, 2048], [8192, 3072]] as const) norms(rows, width); // prettier-ignore
for (const [rows, width] of [
  [98304, 256],
  [262144, 64],
  [196608, 128],
] as const)
  headNorms(rows, width);
rotations(16, 2048, 3, 256);
rotations(16, 2048, 12, 64);
rotations(32, 2048, 4, 64);
rotations(32, 256, 4, 64);
rotations(1, 8192, 24, 128);
attention(16, 2048, 12, 64);
attention(32, 2048, 4, 64);
attention(4, 2048, 16, 128);
losses(5248, 768, 100288, 2);
losses(65536, 256, 264, 4);
losses(8192, 256, 264, 4);
embeddings(32768, 768, 100288);
embeddings(65536, 256, 264);
