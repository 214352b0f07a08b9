import { suite } from 'uvu';
import {
  embedding,
  gatedRmsNorm,
  linear,
  linearGroup,
  linearSwiglu,
  logDecay,
  reshape,
  rmsNorm,
  rotary,
  rotaryPair,
  swiglu,
} from '../../src/ops/index.js';
import type { RotaryStyle } from '../../src/ops/kernels.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { compareOp } from './compare.js';
import * as reference from './reference.js';

const test = suite('ops: norms, rotary, gates, products');
test.before(usePlainBackend);

test('rmsNorm, with and without weight, down to rows of zeros', () => {
  for (const shape of [[5, 8], [2, 3, 4, 6], [1, 1], [7]]) {
    const width = shape[shape.length - 1] as number;
    compareOp({
      shapes: [shape, [width]],
      op: (x, weight) => [rmsNorm(x, weight, 1e-5)],
      reference: (x, weight) => [reference.rmsNorm(x, weight, 1e-5)],
    });
    compareOp({
      shapes: [shape],
      op: (x) => [rmsNorm(x, null, 1e-6)],
      reference: (x) => [reference.rmsNorm(x, null, 1e-6)],
    });
  }
});

test('rotary in both styles, from a start and at given positions', () => {
  const frequencies = Float64Array.of(1, 0.3, 0.01);
  const positions = Int32Array.of(3, 100000, 7, 0, 1, 2);
  for (const style of ['interleaved', 'half'] satisfies RotaryStyle[]) {
    compareOp({
      shapes: [[2, 3, 2, 6]],
      op: (x) => [rotary(x as tf.Tensor4D, { start: 5, frequencies, style })],
      reference: (x) => [reference.rotary(x, (_, t) => 5 + t, frequencies, style)],
    });
    const at = (b: number, t: number): number => positions[b * 3 + t] as number;
    compareOp({
      shapes: [[2, 3, 2, 6]],
      op: (x) => [rotary(x as tf.Tensor4D, { positions, frequencies, style })],
      reference: (x) => [reference.rotary(x, at, frequencies, style)],
    });
  }
});

test('rotaryPair turns queries and keys of other heads', () => {
  const options = { start: 5, frequencies: Float64Array.of(1, 0.3, 0.01), style: 'interleaved' } as const;
  compareOp({
    shapes: [
      [2, 3, 4, 6],
      [2, 3, 2, 6],
    ],
    op: (q, k) => rotaryPair(q as tf.Tensor4D, k as tf.Tensor4D, options),
    reference: (...heads) =>
      heads.map((x) => reference.rotary(x, (_, t) => 5 + t, options.frequencies, 'interleaved')),
  });
});

test('rotary at position one million turns by the float64 phase', () => {
  const frequencies = Float64Array.of(0.9, 1e-4);
  const start = 1_000_003;
  compareOp({
    shapes: [[1, 70, 1, 4]],
    op: (x) => [rotary(x as tf.Tensor4D, { start, frequencies, style: 'half' })],
    reference: (x) => [reference.rotary(x, (_, t) => start + t, frequencies, 'half')],
    tolerance: 1e-6,
  });
});

test('swiglu, saturated ends included', () => {
  compareOp({
    shapes: [
      [3, 5],
      [3, 5],
    ],
    op: (a, b) => [swiglu(a, b)],
    reference: (a, b) => [reference.swiglu(a, b)],
    prepare: (values, input) =>
      input === 0 ? values.map((value, i) => (i < 4 ? value * 60 : value)) : values,
  });
});

test('gatedRmsNorm gates heads by rows', () => {
  compareOp({
    shapes: [
      [2, 3, 2, 4],
      [2, 3, 8],
    ],
    op: (x, gate) => [gatedRmsNorm(x, gate, 1e-5)],
    reference: (x, gate) => [reference.swiglu({ ...gate, shape: x.shape }, reference.rmsNorm(x, null, 1e-5))],
  });
});

test('linearSwiglu is a gated pair of projections', () => {
  compareOp({
    shapes: [
      [2, 3, 5],
      [4, 5],
      [4, 5],
    ],
    op: (x, activated, gate) => [linearSwiglu(x, activated, gate)],
    reference: (x, activated, gate) => [
      reference.swiglu(reference.linear(x, activated), reference.linear(x, gate)),
    ],
  });
});

test('logDecay', () => {
  compareOp({
    shapes: [[2, 3, 4]],
    op: (x) => [logDecay(x, 16)],
    reference: (x) => [reference.logDecay(x, 16)],
    prepare: (values) => values.map((value) => value * 5),
  });
});

test('linear, with and without residual', () => {
  for (const lead of [[4], [2, 3], [1, 1, 1]]) {
    compareOp({
      shapes: [
        [...lead, 5],
        [7, 5],
        [...lead, 7],
      ],
      op: (x, weight, residual) => [linear(x, weight, residual)],
      reference: (x, weight, residual) => [reference.linear(x, weight, residual)],
    });
    compareOp({
      shapes: [
        [...lead, 3],
        [2, 3],
      ],
      op: (x, weight) => [linear(x, weight)],
      reference: (x, weight) => [reference.linear(x, weight)],
    });
  }
});

test('linearGroup is several products of one input', () => {
  compareOp({
    shapes: [
      [2, 3, 5],
      [4, 5],
      [1, 5],
      [6, 5],
    ],
    op: (x, ...weights) => linearGroup(x, weights),
    reference: (x, ...weights) => weights.map((weight) => reference.linear(x, weight)),
  });
});

test('embedding sums the gradients of repeated ids', () => {
  const ids = [3, 0, 3, 6, 3];
  compareOp({
    shapes: [[7, 4]],
    op: (weight) => [embedding(weight, tf.tensor1d(ids, 'int32'), 1.5)],
    reference: (weight) => [reference.embedding(weight, ids, 1.5)],
  });
});

test('reshape keeps values and gradients in order', () => {
  compareOp({
    shapes: [[2, 6]],
    op: (x) => [reshape(x, [3, 4])],
    reference: (x) => [{ shape: [3, 4], data: x.data }],
  });
});

test.run();
