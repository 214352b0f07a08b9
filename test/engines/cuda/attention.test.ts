/** Attention on a device that computes nothing: what is launched, and what is refused. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../../src/engines/cuda/index.js';
import { RunError } from '../../../src/errors.js';
import { causalAttention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { standIn } from './stand-in.js';

const test = suite('cuda attention without a GPU');
type T4 = tf.Tensor4D;

/** Attention of ones and its gradients, with heads of `width`. */
function differentiate(width: number): void {
  const f = (...[q, k, v]: tf.Tensor[]): tf.Tensor => causalAttention(q as T4, k as T4, v as T4);
  tf.tidy(() => {
    const rows = tf.ones([1, 20, 2, width]);
    tf.grads(f)([rows, tf.ones([1, 20, 1, width]), tf.ones([1, 20, 1, width])], rows);
  });
}

test('heads wider than 128 have gradients by kernels', async () => {
  const on = standIn();
  await startOn(on.device);
  differentiate(256);
  const names = on.launches.map(({ name }) => name).filter((name) => name.startsWith('attention'));
  assert.equal(names, ['attention_forward', 'attention_delta', 'attention_grad_query', 'attention_grad_key']);
});

test('heads wider than 256 are refused with what is possible', async () => {
  await startOn(standIn().device);
  assert.throws(
    () => {
      differentiate(258);
    },
    (error: unknown) => error instanceof RunError && /at most 256, not 258/.test(error.message),
  );
});

test.run();
