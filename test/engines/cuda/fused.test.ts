import {
  KeyValuePages, adamW, causalAttention, crossEntropy, embedding, gatedRetention, linear, linearCrossEntropy, linearGroup,
  linearSwiglu, logDecay, pagedAttention, gatedRmsNorm, rmsNorm, rotary, rotaryPair, swiglu, weightedCrossEntropy,
} from '../../../src/ops/index.js'; // prettier-ignore
import * as tf from '../../../src/tf.js';
import { TOLERANCE } from '../relative-error.js';
import { type Input, type Inputs, compare, gpuSuite, withGradients } from './gpu.js';

type T1 = tf.Tensor1D;
type T2 = tf.Tensor2D;
type T3 = tf.Tensor3D;
type T4 = tf.Tensor4D;

/** [batch, queries, keys, heads, kvHeads, width, window] */
type AttentionCase = [number, number, number, number, number, number, number | null];
const ATTENTION: AttentionCase[] = [
  [1, 128, 128, 1, 1, 128, null],
  [2, 300, 300, 4, 2, 128, null],
  [1, 200, 333, 3, 1, 64, null],
  [1, 300, 300, 2, 2, 128, 100],
  [2, 150, 290, 2, 1, 64, 33],
  [1, 40, 90, 4, 2, 40, null],
  [2, 33, 70, 2, 1, 16, 7],
  [1, 70, 70, 2, 1, 256, null],
  [1, 90, 150, 4, 2, 200, 60],
  [1, 1, 1000, 6, 2, 128, null],
  [2, 3, 777, 4, 1, 64, 500],
];
/** [batch, time, heads, keyWidth, valueWidth, with state] */
const RETENTION: [number, number, number, number, number, boolean][] = [
  [1, 128, 1, 128, 128, false],
  [2, 300, 2, 128, 128, true],
  [1, 333, 3, 64, 64, true],
  [2, 96, 2, 16, 24, true],
  [1, 5, 2, 128, 128, true],
  [2, 1, 3, 32, 32, true],
  [1, 150, 2, 256, 200, true],
  [1, 3, 2, 256, 256, true],
];

function attentionInputs(
  inputs: Inputs,
  [batch, queries, keys, heads, kvHeads, width]: AttentionCase,
): Input[] {
  const kv = [batch, keys, kvHeads, width];
  return [inputs.normal([batch, queries, heads, width], 1.5), inputs.normal(kv), inputs.normal(kv)];
}

for (const storage of ['float32', 'bfloat16', 'float16'] as const) {
  const test = await gpuSuite(`cuda fused kernels, ${storage}`, { storage, seed: 23 });
  const tolerance = TOLERANCE[storage];

  test('RMSNorm', async (inputs) => {
    for (const [rows, width] of [
      [5, 128],
      [3, 3072],
      [70, 64],
      [9, 100],
      [300, 24],
    ] as const) {
      const x = inputs.normal([rows, width], 2);
      const dy = inputs.normal([rows, width]);
      const weighted = withGradients((x, w) => rmsNorm(x, w as T1, 1e-5), dy);
      await compare(`RmsNorm ${width}`, tolerance, [x, inputs.normal([width], 0.2, 1)], weighted);
      await compare(
        `RmsNorm ${width}, plain`,
        tolerance,
        [x],
        withGradients((x) => rmsNorm(x, null, 1e-5), dy),
      );
    }
  });

  test('RMSNorm with a gate', async (inputs) => {
    for (const width of [256, 3072, 100, 24]) {
      const shape = [1, 3, 2, width];
      const pair = [inputs.normal(shape, 2), inputs.normal([1, 3, 2 * width])];
      await compare(`GatedRmsNorm ${width}`, tolerance, pair, (x, gate) => [gatedRmsNorm(x, gate, 1e-5)]);
    }
  });

  test('rotary', async (inputs) => {
    for (const style of ['interleaved', 'half'] as const) {
      for (const width of [128, 32, 12]) {
        const frequencies = Float64Array.from({ length: width / 2 }, (_, i) => 10000 ** (-i / (width / 2)));
        const x = inputs.normal([2, 9, 3, width]);
        const options = { start: 1_000_000, frequencies, style };
        const body = withGradients((x) => rotary(x as T4, options), inputs.normal([2, 9, 3, width]));
        await compare(`Rotary ${style} ${width}`, tolerance, [x], body);
        const positions = Int32Array.from({ length: 18 }, (_, i) => i * 7919);
        await compare(
          `RotaryPair ${style} ${width}`,
          tolerance,
          [x, inputs.normal([2, 9, 1, width])],
          (q, k) => rotaryPair(q as T4, k as T4, options),
        );
        await compare('Rotary positions', tolerance, [x], (x) => [
          rotary(x as T4, { positions, frequencies, style }),
        ]);
      }
    }
  });

  test('SwiGLU, decay, linear layers, embedding', async (inputs) => {
    for (const shape of [
      [7, 129],
      [4, 2, 64],
    ]) {
      const pair = [inputs.normal(shape, 3), inputs.normal(shape)];
      await compare(
        'SwiGlu',
        tolerance,
        pair,
        withGradients((a, b) => swiglu(a, b), inputs.normal(shape)),
      );
      await compare(
        'LogDecay',
        tolerance,
        [inputs.normal(shape, 4)],
        withGradients((x) => logDecay(x, 16), inputs.normal(shape)),
      );
    }
    const [x, w, r] = [inputs.normal([2, 33, 48]), inputs.normal([80, 48]), inputs.normal([2, 33, 80])];
    const dy = inputs.normal([2, 33, 80]);
    await compare(
      'Linear',
      tolerance,
      [x, w],
      withGradients((x, w) => linear(x, w), dy),
    );
    await compare(
      'Linear + residual',
      tolerance,
      [x, w, r],
      withGradients((x, w, r) => linear(x, w, r), dy),
    );
    const group = [x, w, inputs.normal([24, 48]), inputs.normal([5, 48])];
    await compare('LinearGroup', tolerance, group, (x, ...weights) => linearGroup(x, weights));
    const joined = (x: tf.Tensor, ...weights: tf.Tensor[]): tf.Tensor =>
      tf.concat(linearGroup(x, weights), 2);
    await compare(
      'LinearGroup, gradient',
      tolerance,
      group,
      withGradients(joined, inputs.normal([2, 33, 80 + 24 + 5])),
    );
    for (const [rows, inner, width] of [
      [1, 3072, 100],
      [3, 200, 7],
      [4, 1032, 33],
      [40, 48, 24],
    ] as const) {
      const [x, a, b] = [inputs.normal([rows, inner]), inputs.normal([width, inner], inner ** -0.5), inputs.normal([width, inner], inner ** -0.5)]; // prettier-ignore
      await compare(`LinearSwiGlu ${rows}`, tolerance, [x, a, b], (x, a, b) => [linearSwiglu(x, a, b)]);
      const residual = inputs.normal([rows, width]);
      await compare(`Linear ${rows}`, tolerance, [x, a, residual], (x, a, r) => [linear(x, a, r)]);
    }
    const ids = inputs.integers([3, 50], 20);
    const embed = (w: tf.Tensor): tf.Tensor => embedding(w, tf.tensor(ids.values, ids.shape, 'int32'), 3);
    await compare(
      'Embedding',
      tolerance,
      [inputs.normal([20, 36])],
      withGradients(embed, inputs.normal([3, 50, 36])),
    );
  });

  test('cross-entropy', async (inputs) => {
    const targets = inputs.integers([37], 501);
    const ids = (): T1 => tf.tensor1d(targets.values, 'int32');
    const dy = inputs.normal([37]);
    const fromLogits = withGradients((l) => crossEntropy(l as T2, ids()), dy);
    await compare('CrossEntropy', tolerance, [inputs.normal([37, 501], 3)], fromLogits);
    const weights = inputs.normal([37]);
    // Few words and many: logits of training in float32 and in storage.
    for (const vocabulary of [501, 5001]) {
      const operands = [inputs.normal([37, 40]), inputs.normal([vocabulary, 40], 0.5)];
      const fused = withGradients((x, w) => linearCrossEntropy(x as T2, w as T2, ids()), dy);
      await compare(`LinearCrossEntropy ${vocabulary}`, tolerance, operands, fused);
      const name = `WeightedCrossEntropy ${vocabulary}`;
      await compare(name, tolerance, [...operands, weights], (x, w, f) => {
        const total = (x: tf.Tensor, w: tf.Tensor): tf.Scalar =>
          weightedCrossEntropy(x as T2, w as T2, ids(), f as T1).total;
        const { value, grads } = tf.valueAndGrads(total)([x, w], tf.scalar(1.5));
        return [value, ...grads];
      });
    }
  });

  test('AdamW', async (inputs) => {
    const options = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
    await compare('AdamW', tolerance, [inputs.normal([333]), inputs.normal([333])], (start, gradient) => {
      const [parameter, m, v] = [start, tf.zerosLike(start), tf.zerosLike(start)].map((t) =>
        tf.variable(t),
      ) as [tf.Variable, tf.Variable, tf.Variable];
      for (let step = 1; step <= 3; step++) {
        adamW(parameter, tf.mul(gradient, step), m, v, { ...options, step, scale: tf.scalar(0.5) });
      }
      const results = [parameter, m, v].map((t) => tf.mul(t, 1));
      tf.dispose([parameter, m, v]);
      return results;
    });
  });

  test('causal attention', async (inputs) => {
    for (const shape of ATTENTION) {
      const window = shape[6];
      const operands = attentionInputs(inputs, shape);
      const body = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor =>
        causalAttention(q as T4, k as T4, v as T4, { window });
      const dy = inputs.normal([...(operands[0] as Input).shape]);
      await compare(`CausalAttention ${shape.join()}`, tolerance, operands, withGradients(body, dy));
    }
    const positions = Int32Array.from([3, 60, 17, 59, 0, 33]);
    const operands = attentionInputs(inputs, [2, 3, 61, 4, 2, 64, null]);
    const body = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor =>
      causalAttention(q as T4, k as T4, v as T4, { positions });
    await compare('positions', tolerance, operands, withGradients(body, inputs.normal([2, 3, 4, 64])));
  });

  test('paged attention', async (inputs) => {
    for (const pageSize of [16, 128, 256]) {
      for (const [batch, queries, keys, heads, kvHeads, width, window] of ATTENTION) {
        if (width > 128 || keys < queries) continue;
        const operands = attentionInputs(inputs, [batch, queries, keys, heads, kvHeads, width, window]);
        await compare(`PagedAttention ${pageSize} ${width}`, tolerance, operands, (q, k, v) => {
          const pages = new KeyValuePages({ batch, kvHeads, headDim: width, pageSize });
          const first = Math.floor(keys / 3);
          for (const [start, count] of [
            [0, first],
            [first, keys - first],
          ] as const) {
            const part = (x: tf.Tensor): T4 =>
              tf.slice(x as T4, [0, start, 0, 0], [batch, count, kvHeads, width]);
            if (count > 0) pages.append(part(k), part(v));
          }
          const out = pagedAttention(q as T4, pages, { window });
          pages.dispose();
          return [out];
        });
      }
    }
  });

  test('gated retention', async (inputs) => {
    for (const [batch, time, heads, keyWidth, valueWidth, withState] of RETENTION) {
      const keys = [batch, time, heads, keyWidth];
      const operands = [
        inputs.normal(keys),
        inputs.normal(keys),
        inputs.normal([batch, time, heads, valueWidth]),
        inputs.normal([batch, time, heads], 0.02, -0.06),
        ...(withState ? [inputs.normal([batch, heads, keyWidth, valueWidth])] : []),
      ];
      const run = (...[q, k, v, g, state]: tf.Tensor[]) =>
        gatedRetention(q as T4, k as T4, v as T4, g as T3, { state: state as T4 | undefined });
      const name = `GatedRetention ${time} ${keyWidth} ${valueWidth}`;
      await compare(name, tolerance, operands, (...t) => {
        const { output, state } = run(...t);
        return [output, state];
      });
      const [dOut, dState] = [
        inputs.normal([batch, time, heads, valueWidth]),
        inputs.normal([batch, heads, keyWidth, valueWidth]),
      ];
      await compare(`${name}, gradient`, tolerance, operands, (...t) => {
        const loss = (...inputs: tf.Tensor[]): tf.Scalar => {
          const { output, state } = run(...inputs);
          return tf.add(
            tf.sum(tf.mul(output, tf.tensor(dOut.values, dOut.shape))),
            tf.sum(tf.mul(state, tf.tensor(dState.values, dState.shape))),
          );
        };
        return tf.grads(loss)(t);
      });
    }
  });

  test.run();
}
