/** Attention and retention as the official functions compute them (`../shared/fixtures/functions`), with their gradients. */
import type { SafetensorsFile } from '../../src/checkpoint/safetensors.js';
import { causalAttention, gatedRetention } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';

export const FUNCTIONS = 'fixtures/functions/golden.safetensors';

/** What an op gave, and what the official function did. */
export interface Outcome {
  readonly name: string;
  readonly found: tf.Tensor;
  readonly expected: Float32Array;
}

export const values = (golden: SafetensorsFile, name: string): Float32Array =>
  golden.read(name) as Float32Array;

export const tensor = (golden: SafetensorsFile, name: string): tf.Tensor =>
  tf.tensor(values(golden, name), [...golden.info(name).shape]);

/** Golden tensors of retention are [B, H, T, ...] where ours are [B, T, H, ...]. */
export function timeFirst(golden: SafetensorsFile, name: string): Float32Array {
  const { shape } = golden.info(name);
  const [batch = 1, heads = 1, time = 1] = shape;
  const from = values(golden, name);
  const width = from.length / (batch * heads * time);
  const to = new Float32Array(from.length);
  for (let row = 0; row < batch * heads * time; row++) {
    const [b, h, t] = [Math.floor(row / (heads * time)), Math.floor(row / time) % heads, row % time];
    to.set(from.subarray(row * width, (row + 1) * width), ((b * time + t) * heads + h) * width);
  }
  return to;
}

function timeFirstTensor(golden: SafetensorsFile, name: string): tf.Tensor {
  const [batch = 1, heads = 1, time = 1, ...rest] = golden.info(name).shape;
  return tf.tensor(timeFirst(golden, name), [batch, time, heads, ...rest]);
}

export const retentionInputs = (golden: SafetensorsFile): tf.Tensor[] =>
  ['ret.q', 'ret.k', 'ret.v', 'ret.g'].map((name) => timeFirstTensor(golden, name));

/** Values of `f` and gradients of sum(f * gradOut) with respect to its inputs. */
export const differentiate = (
  f: (...inputs: tf.Tensor[]) => tf.Tensor,
  inputs: tf.Tensor[],
  gradOut: tf.Tensor,
): tf.Tensor[] => [f(...inputs), ...tf.grads(f)(inputs, gradOut)];

/** Attention with a window or groups, and with fewer queries than keys. */
export function attentionOutcomes(golden: SafetensorsFile): Outcome[] {
  const cases = [
    ['swa', 7],
    ['swa_offset', 7],
    ['gqa', null],
    ['gqa_offset', null],
  ] as const;
  return cases.flatMap(([name, window]) => {
    const results = differentiate(
      (q, k, v) => causalAttention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, { window }),
      ['q', 'k', 'v'].map((input) => tensor(golden, `${name}.${input}`)),
      tensor(golden, `${name}.grad_out`),
    );
    return ['out', 'grad_q', 'grad_k', 'grad_v'].map((what, i) => ({
      name: `${name}.${what}`,
      found: results[i] as tf.Tensor,
      expected: values(golden, `${name}.${what}`),
    }));
  });
}

/** Retention with and without a state before it; gradients also of the decay and of that state. */
export function retentionOutcomes(golden: SafetensorsFile): Outcome[] {
  const gradOut = timeFirstTensor(golden, 'ret.grad_out');
  const retain = (...[q, k, v, g, state]: tf.Tensor[]): tf.Tensor =>
    gatedRetention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, g as tf.Tensor3D, {
      chunkSize: 32,
      state: state as tf.Tensor4D | undefined,
    }).output;
  const zero = differentiate(retain, retentionInputs(golden), gradOut);
  const from = differentiate(retain, [...retentionInputs(golden), tensor(golden, 'ret.s0')], gradOut);
  const names = ['o_', 'grad_q_', 'grad_k_', 'grad_v_', 'grad_g_'].map((name) => `ret.${name}`);
  const outcome = (name: string, found: tf.Tensor | undefined): Outcome => ({
    name,
    found: found as tf.Tensor,
    expected: timeFirst(golden, name),
  });
  return [
    ...names.flatMap((name, i) => [
      outcome(`${name}chunk32`, zero[i]),
      outcome(`${name}parallel`, zero[i]),
      outcome(`${name}chunk32_s0`, from[i]),
    ]),
    {
      name: 'ret.grad_s0_chunk32_s0',
      found: from[5] as tf.Tensor,
      expected: values(golden, 'ret.grad_s0_chunk32_s0'),
    },
  ];
}
