/** Gated retention and the gated delta rule on a device that computes nothing: what is launched, and from where. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { KernelSpec } from '../../../src/engines/cuda/device.js';
import { kernelSource } from '../../../src/engines/cuda/sources.js';
import { startOn } from '../../../src/engines/cuda/index.js';
import { gatedDeltaRule, gatedRetention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { standIn } from './stand-in.js';

const test = suite('cuda gated retention and delta rule');

const fill = (...shape: number[]): tf.Tensor => tf.fill(shape, -1);

interface Launched extends KernelSpec {
  readonly blocks: number;
  readonly threads: number;
}

/** The kernels whose names begin with `prefix` that the op and its gradient launch, in order, and their blocks of the first dimension and threads. */
async function kernelsOf(prefix: string, op: () => void): Promise<Launched[]> {
  const { device } = standIn();
  const launched: Launched[] = [];
  const launch = device.launch.bind(device);
  device.launch = (kernel, grid, threads, ...rest) => {
    launched.push({ ...kernel, blocks: grid[0], threads });
    launch(kernel, grid, threads, ...rest);
  };
  await startOn(device);
  tf.tidy(op);
  return launched.filter(({ name }) => name.startsWith(prefix));
}

/** Each once, in its source. */
function assertKernels(kernels: readonly KernelSpec[], prefix: string, parts: readonly string[]): void {
  const names = [...new Set(kernels.map(({ name }) => name))];
  assert.equal(
    names,
    parts.map((part) => `${prefix}_${part}`),
  );
  for (const { file, name } of kernels) {
    assert.match(kernelSource(file).source, new RegExp(`KERNEL (__launch_bounds__\\(\\w+\\) )?${name}\\(`));
  }
}

test('every kernel of gated retention and its gradient is in the source that it is launched from', async () => {
  const kernels = await kernelsOf('retention', () => {
    const rows = fill(1, 70, 2, 24) as tf.Tensor4D;
    const decay = fill(1, 70, 2) as tf.Tensor3D;
    tf.grad((q) => gatedRetention(q as tf.Tensor4D, rows, rows, decay).output)(rows);
  });
  const parts = ['contribution', 'recurrence', 'output', 'grad_query', 'grad_key', 'grad_decay'];
  assertKernels(kernels, 'retention', parts);
});

test('heads of multiples of 64 take the kernels for Hopper, whole, whatever their group', async () => {
  const parts = ['states', 'output', 'query', 'key', 'value'].map((part) => `retention_hopper_${part}`);
  for (const [key, value] of [
    [128, 128],
    [256, 128],
    [128, 256],
    [64, 64],
    [64, 256],
    [192, 64],
  ] as const) {
    const kernels = await kernelsOf('retention', () => {
      const [q, v] = [fill(2, 300, 2, key) as tf.Tensor4D, fill(2, 300, 4, value) as tf.Tensor4D];
      tf.grad((x) => gatedRetention(x as tf.Tensor4D, q, v, fill(2, 300, 4) as tf.Tensor3D).output)(q);
    });
    const [states, output, query, ofKey, ofValue] = parts;
    const order = [states, output, states, query, states, ofKey, ofValue, 'retention_grad_decay'];
    assert.equal(
      kernels.map(({ name }) => name),
      order,
    );
    // Of 64 by 64 elements of states, which are too few here for more; as many as there are tiles of 128 columns (or 64, of a width that is
    // no multiple) by 128 positions; or multiprocessors.
    const walk = Math.min(132, (2 * 4 * key * value) / 64 ** 2);
    const columns = (width: number): number => (width % 128 === 0 ? 128 : 64);
    const tiles = (width: number): number => Math.min(132, (2 * 4 * 3 * width) / columns(width));
    assert.equal(
      kernels.slice(0, 7).map(({ blocks }) => blocks),
      [walk, tiles(value), walk, tiles(key), walk, tiles(key), tiles(value)],
    );
    assert.equal(
      kernels.map(({ head }) => head),
      [undefined, columns(value), undefined, columns(key), undefined, ...[key, value, key].map(columns)],
    );
  }
  const source = ['retention_hopper', 'retention_hopper_states']
    .map((file) => kernelSource(file).source)
    .join('');
  for (const name of parts) assert.match(source, new RegExp(`\\b${name}\\(|ROWS_KERNEL\\(${name}\\)`));
});

test('many heads are walked by two warpgroups a block', async () => {
  const [states] = await kernelsOf('retention', () => {
    const rows = fill(8, 300, 6, 256) as tf.Tensor4D;
    gatedRetention(rows, rows, rows, fill(8, 300, 6) as tf.Tensor3D);
  });
  assert.is(states?.blocks, 132);
  assert.is(states?.threads, 2 * 128 + 4 * 32);
});

const DELTA_GRADIENT = ['grad_solve', 'grad_states', 'grad_back', 'grad_rows'];

/** The gated delta rule and its gradient. */
const delta = (key: number, value: number) => (): void => {
  const [q, v] = [fill(1, 70, 2, key) as tf.Tensor4D, fill(1, 70, 2, value) as tf.Tensor4D];
  const gates = fill(1, 70, 2) as tf.Tensor3D;
  tf.grad((x) => gatedDeltaRule(x as tf.Tensor4D, q, v, gates, gates).output)(q);
};

test('every kernel of the gated delta rule and its gradient, too', async () => {
  assertKernels(await kernelsOf('delta', delta(24, 40)), 'delta', ['solve', 'chunks', ...DELTA_GRADIENT]);
});

test('the gradient of the gated delta rule takes value columns in blocks, and no keys wider than 128', async () => {
  const wide = (await kernelsOf('delta_grad', delta(128, 300))).map(({ name, head }) => [name, head]);
  const widths = [128, 128, 128];
  assert.equal(
    wide,
    widths.flatMap((head) => DELTA_GRADIENT.map((part) => [`delta_${part}`, head])),
  );
  assert.equal(await kernelsOf('delta_grad', delta(136, 24)), []);
  // Keys of 128 and values of 24: the states have 128 columns, in blocks of 64, all of which are written.
  const narrow = (await kernelsOf('delta_grad', delta(128, 24))).map(({ blocks }) => blocks);
  assert.equal(narrow, [2, 2, 2, 2]);
});

test.after(async () => {
  await tf.setBackend('cpu');
});
test.run();
