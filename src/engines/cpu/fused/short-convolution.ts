/**
 * The short convolution and its gradient; formulas in `ops/short-convolution`. Every tap is a product of the same rows, some
 * positions further on, with a vector: views of one array, which a graph multiplies and adds in tiles.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { graph, type GraphBuilder } from '../graph.js';
import type { Graph } from '../onnx.js';
import type { OnnxTensor } from '../runtime.js';
import { inTiles } from './rows.js';

interface Sizes {
  readonly batch: number;
  readonly time: number;
  readonly width: number;
  readonly taps: number;
}

function sizesOf(x: TensorInfo, weight: TensorInfo): Sizes {
  const [batch, time, width] = x.shape as [number, number, number];
  return { batch, time, width, taps: weight.shape[2] as number };
}

interface Operands {
  readonly x: TensorInfo;
  readonly weight: TensorInfo;
  readonly bias?: TensorInfo;
  readonly state?: TensorInfo;
}

/** Fills `inputs`, [K - 1 + T, D], with the state and the inputs of one sequence. */
function fill(backend: CpuBackend, inputs: Floats, { x, weight, state }: Operands, sequence: number): void {
  const { time, width, taps } = sizesOf(x, weight);
  const before = (taps - 1) * width;
  if (state) inputs.set(backend.floats(state).subarray(sequence * before, (sequence + 1) * before));
  else inputs.fill(0, 0, before);
  const size = time * width;
  inputs.set(backend.floats(x).subarray(sequence * size, (sequence + 1) * size), before);
}

/** Lends room for the inputs of a sequence, the taps as rows, and a bias, which is 0 where there is none. */
function withConstants(
  backend: CpuBackend,
  { x, weight, bias }: Operands,
  body: (inputs: Floats, rows: Floats, bias: Floats) => void,
): void {
  const { time, width, taps } = sizesOf(x, weight);
  backend.withScratch([(time + taps - 1) * width, taps * width, width], ([inputs, rows, constant]) => {
    const weights = backend.floats(weight);
    for (let d = 0; d < width; d++)
      for (let j = 0; j < taps; j++) rows[j * width + d] = weights[d * taps + j] as number;
    if (bias) constant.set(backend.floats(bias));
    else constant.fill(0);
    body(inputs, rows, constant);
  });
}

/** `count` rows from row `first` of an array of rows. */
function rowsOf(
  { runtime }: CpuBackend,
  values: Floats,
  width: number,
  first: number,
  count: number,
): OnnxTensor {
  return runtime.wrap(values.subarray(first * width, (first + count) * width), [count, width]);
}

/** Feeds x0, x1, …: rows that begin one after the other; and w0, w1, …: the taps. */
function tapFeeds(
  backend: CpuBackend,
  values: Floats,
  taps: Floats,
  { width, taps: count }: Sizes,
  [from, to]: readonly [number, number],
): Record<string, OnnxTensor> {
  const feeds: Record<string, OnnxTensor> = {};
  for (let j = 0; j < count; j++) {
    feeds[`x${j}`] = rowsOf(backend, values, width, from + j, to - from);
    feeds[`w${j}`] = backend.runtime.wrap(taps.subarray(j * width, (j + 1) * width), [width]);
  }
  return feeds;
}

/** Σ x_j w_j */
function sumOfTaps(g: GraphBuilder, taps: number): string {
  const products = Array.from({ length: taps }, (_, j) =>
    g.op('Mul', [g.input(`x${j}`, 2), g.input(`w${j}`, 1)]),
  );
  return products.reduce((sum, product) => g.op('Add', [sum, product]));
}

function forwardGraph(taps: number, silu: boolean): Graph {
  return graph((g) => {
    const sum = g.op('Add', [sumOfTaps(g, taps), g.input('bias', 1)]);
    g.output('y', 2, silu ? g.op('Mul', [sum, g.sigmoid(sum)]) : sum);
  });
}

/** dOutput · silu'(z), z computed again: s (1 + z s̄) with s̄ = sigmoid(-z). */
function slopeGraph(taps: number): Graph {
  return graph((g) => {
    const z = g.op('Add', [sumOfTaps(g, taps), g.input('bias', 1)]);
    const rest = g.op('Mul', [z, g.sigmoid(g.op('Neg', [z]))]);
    const slope = g.op('Mul', [g.sigmoid(z), g.op('Add', [rest, g.scalar(1)])]);
    g.output('dSum', 2, g.op('Mul', [g.input('dOutput', 2), slope]));
  });
}

/** Sums over rows: of dSum · x_j, which are the gradients of the taps, and of dSum, which is that of the bias. */
function sumsGraph(taps: number): Graph {
  return graph((g) => {
    const dSum = g.input('dSum', 2);
    const sum = (x: string): string => g.op('ReduceSum', [x, g.integers(0)], { keepdims: 0 });
    for (let j = 0; j < taps; j++) g.output(`dw${j}`, 1, sum(g.op('Mul', [dSum, g.input(`x${j}`, 2)])));
    g.output('dBias', 1, sum(dSum));
  });
}

/** Rows that are worth a call into ONNX Runtime; fewer are computed here. */
const WORTH_A_CALL = 8;

export const shortConvolution: FusedKernel<'ShortConvolution', CpuBackend> = (inputs, { silu }, backend) => {
  const { x, weight } = inputs;
  const sizes = sizesOf(x, weight);
  const { batch, time, width, taps } = sizes;
  const output = backend.output(x.shape);
  const last = backend.output([batch, taps - 1, width]);
  withConstants(backend, inputs, (values, rows, bias) => {
    for (let b = 0; b < batch; b++) {
      fill(backend, values, inputs, b);
      backend.floats(last).set(values.subarray(time * width), b * (taps - 1) * width);
      const out = backend.floats(output).subarray(b * time * width, (b + 1) * time * width);
      if (time < WORTH_A_CALL) {
        convolveFew(values, rows, bias, out, silu, sizes);
        continue;
      }
      inTiles(time, width, (from, to) => {
        const feeds = {
          ...tapFeeds(backend, values, rows, sizes, [from, to]),
          bias: backend.runtime.wrap(bias, [width]),
        };
        const fetches = { y: rowsOf(backend, out, width, from, to - from) };
        const key = `ShortConvolution/${taps}/${silu}`;
        backend.run(key, () => forwardGraph(taps, silu), feeds, fetches);
      });
    }
  });
  return [output, last];
};

/** A few positions, as in decoding. */
function convolveFew(
  inputs: Floats,
  rows: Floats,
  bias: Floats,
  out: Floats,
  silu: boolean,
  { time, width, taps }: Sizes,
): void {
  for (let t = 0; t < time; t++)
    for (let d = 0; d < width; d++) {
      let sum = bias[d] as number;
      for (let j = 0; j < taps; j++)
        sum += (inputs[(t + j) * width + d] as number) * (rows[j * width + d] as number);
      out[t * width + d] = silu ? sum / (1 + Math.exp(-sum)) : sum;
    }
}

export const shortConvolutionGrad: FusedKernel<'ShortConvolutionGrad', CpuBackend> = (
  inputs,
  { silu },
  backend,
) => {
  const { x, weight, bias, dOutput, dState } = inputs;
  const sizes = sizesOf(x, weight);
  const { batch, time, width, taps } = sizes;
  const dx = backend.output(x.shape);
  const dInitial = backend.output(dState.shape);
  /** Of the taps and of the bias, summed over tiles in float64. */
  const totals = Array.from({ length: taps + 1 }, () => new Float64Array(width));
  const [ahead, size] = [(taps - 1) * width, time * width];
  withConstants(backend, inputs, (values, rows, constant) => {
    backend.withScratch([size + 2 * ahead, size + ahead], ([padded, dInputs]) => {
      padded.fill(0, 0, ahead).fill(0, ahead + size);
      const dSum = padded.subarray(ahead, ahead + size);
      for (let b = 0; b < batch; b++) {
        fill(backend, values, inputs, b);
        const dOut = backend.floats(dOutput).subarray(b * size, (b + 1) * size);
        if (silu) slopes(backend, sizes, values, rows, constant, dOut, dSum);
        else dSum.set(dOut);
        sumTaps(backend, sizes, values, dSum, totals);
        turnBack(backend, sizes, padded, rows, dInputs);
        addTo(dInputs.subarray(size), backend.floats(dState).subarray(b * ahead, (b + 1) * ahead));
        backend.floats(dInitial).set(dInputs.subarray(0, ahead), b * ahead);
        backend.floats(dx).set(dInputs.subarray(ahead), b * size);
      }
    });
  });
  const dWeight = backend.output(weight.shape);
  const weights = backend.floats(dWeight);
  for (let j = 0; j < taps; j++)
    for (let d = 0; d < width; d++) weights[d * taps + j] = totals[j]?.[d] as number;
  if (!bias) return [dx, dWeight, dInitial];
  const dBias = backend.output([width]);
  backend.floats(dBias).set(totals[taps] as Float64Array);
  return [dx, dWeight, dInitial, dBias];
};

function addTo(sum: Floats | Float64Array, terms: Floats): void {
  for (let i = 0; i < terms.length; i++) sum[i] = (sum[i] as number) + (terms[i] as number);
}

/**
 * dInputs_p = Σ_j w_j dSum_{p-j}, the state's before the inputs': the taps in reverse over dSum with K - 1 zeros on either
 * side, which is `padded`.
 */
function turnBack(backend: CpuBackend, sizes: Sizes, padded: Floats, rows: Floats, dInputs: Floats): void {
  const { time, width, taps } = sizes;
  backend.withScratch([taps * width, width], ([reversed, zeros]) => {
    zeros.fill(0);
    for (let j = 0; j < taps; j++)
      reversed.set(rows.subarray((taps - 1 - j) * width, (taps - j) * width), j * width);
    inTiles(time + taps - 1, width, (from, to) => {
      const feeds = {
        ...tapFeeds(backend, padded, reversed, sizes, [from, to]),
        bias: backend.runtime.wrap(zeros, [width]),
      };
      const fetches = { y: rowsOf(backend, dInputs, width, from, to - from) };
      const key = `ShortConvolution/${taps}/false`;
      backend.run(key, () => forwardGraph(taps, false), feeds, fetches);
    });
  });
}

/** dSum = dOutput · silu'(z), [T, D]. */
function slopes(
  backend: CpuBackend,
  sizes: Sizes,
  values: Floats,
  rows: Floats,
  bias: Floats,
  dOut: Floats,
  dSum: Floats,
): void {
  const { time, width, taps } = sizes;
  inTiles(time, width, (from, to) => {
    const feeds = {
      ...tapFeeds(backend, values, rows, sizes, [from, to]),
      bias: backend.runtime.wrap(bias, [width]),
      dOutput: rowsOf(backend, dOut, width, from, to - from),
    };
    const fetches = { dSum: rowsOf(backend, dSum, width, from, to - from) };
    backend.run(`ShortConvolutionSlope/${taps}`, () => slopeGraph(taps), feeds, fetches);
  });
}

/** Adds a sequence's share to the gradients of the taps and of the bias. */
function sumTaps(
  backend: CpuBackend,
  sizes: Sizes,
  values: Floats,
  dSum: Floats,
  totals: readonly Float64Array[],
): void {
  const { time, width, taps } = sizes;
  backend.withScratch([(taps + 1) * width], ([sums]) => {
    const row = (j: number): Floats => sums.subarray(j * width, (j + 1) * width);
    inTiles(time, width, (from, to) => {
      const feeds: Record<string, OnnxTensor> = { dSum: rowsOf(backend, dSum, width, from, to - from) };
      const fetches: Record<string, OnnxTensor> = { dBias: backend.runtime.wrap(row(taps), [width]) };
      for (let j = 0; j < taps; j++) {
        feeds[`x${j}`] = rowsOf(backend, values, width, from + j, to - from);
        fetches[`dw${j}`] = backend.runtime.wrap(row(j), [width]);
      }
      backend.run(`ShortConvolutionSums/${taps}`, () => sumsGraph(taps), feeds, fetches);
      totals.forEach((total, j) => {
        addTo(total, row(j));
      });
    });
  });
}
