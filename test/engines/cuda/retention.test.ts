/** Gated retention on a device that computes nothing: what is launched, and from where. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { KernelSpec } from '../../../src/engines/cuda/device.js';
import { kernelSource } from '../../../src/engines/cuda/sources.js';
import { startOn } from '../../../src/engines/cuda/index.js';
import { gatedRetention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { standIn } from './stand-in.js';

const test = suite('cuda gated retention');

test('every kernel of the operation and its gradient is in the source that it is launched from', async () => {
  const { device } = standIn();
  const launched: KernelSpec[] = [];
  const launch = device.launch.bind(device);
  device.launch = (kernel, ...rest) => {
    launched.push(kernel);
    launch(kernel, ...rest);
  };
  await startOn(device);
  tf.tidy(() => {
    const rows = tf.fill<tf.Rank.R4>([1, 70, 2, 24], 1);
    const decay = tf.fill<tf.Rank.R3>([1, 70, 2], -1);
    tf.grad((q) => gatedRetention(q as tf.Tensor4D, rows, rows, decay).output)(rows);
  });
  const kernels = launched.filter(({ name }) => name.startsWith('retention'));
  assert.equal(
    [...new Set(kernels.map(({ name }) => name))],
    ['contribution', 'recurrence', 'output', 'grad_query', 'grad_key', 'grad_decay'].map(
      (part) => `retention_${part}`,
    ),
  );
  for (const { file, name } of kernels) {
    assert.match(kernelSource(file).source, new RegExp(`KERNEL (__launch_bounds__\\(\\w+\\) )?${name}\\(`));
  }
});

test.after(async () => {
  await tf.setBackend('cpu');
});
test.run();
