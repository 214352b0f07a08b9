/** Which kernels two projections and SwiGLU are, on a device that computes nothing. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../../src/engines/cuda/index.js';
import { suitsSwigluHopper } from '../../../src/engines/cuda/kernels/linear-swiglu-hopper.js';
import { kernelSource } from '../../../src/engines/cuda/sources.js';
import type { StorageType } from '../../../src/engines/engine.js';
import { linearSwiglu } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { type Launch, standIn } from './stand-in.js';

const test = suite('cuda projections that end in SwiGLU');

const MULTIPROCESSORS = 132;
const ONE_PASS = 'linear_swiglu_hopper';

interface On {
  storage?: StorageType;
  architecture?: string;
}

/** What is queued for x of these dimensions, the last one being the inner, and weights to so many columns. */
async function queued(shape: number[], width: number, on: On = {}): Promise<Launch[]> {
  const { device, launches } = standIn();
  const { storage = 'bfloat16', architecture = 'sm_90a' } = on;
  await startOn({ ...device, storage, driver: { ...device.driver, architecture } });
  tf.tidy(() => {
    const x = tf.fill(shape, 1);
    const [activated, gate] = [0, 1].map(() => tf.fill([width, shape.at(-1) ?? 1], 0.5)) as [
      tf.Tensor,
      tf.Tensor,
    ];
    launches.splice(0);
    assert.equal(linearSwiglu(x, activated, gate).shape, [...shape.slice(0, -1), width]);
  });
  return launches;
}

const namesOf = (launches: readonly Launch[]): string[] =>
  launches.map(({ name }) => name).filter((name) => !/^(fill|copy|cast|unary)/.test(name));

test('many rows are multiplied and gated in one pass on Hopper', async () => {
  const launches = await queued([2, 2048, 200], 1000);
  assert.equal(namesOf(launches), [ONE_PASS]);
  const [{ grid, args } = { grid: [], args: [] }] = launches.filter(({ name }) => name === ONE_PASS);
  assert.equal([...grid], [MULTIPROCESSORS]);
  assert.equal(
    args.map((argument) => (argument.kind === 'bytes' ? argument.value.length : 0)),
    [128, 128, 128, 128, 12],
  );
  const tiles = args[4]?.kind === 'bytes' ? args[4].value : new Uint8Array();
  assert.equal([...new Int32Array(tiles.buffer)], [32, 8, 4], 'rows, columns and slices, none left out');
  assert.match(kernelSource(ONE_PASS).source, new RegExp(`\\b${ONE_PASS}\\(const __grid_constant__`));
});

test('other storage, other GPUs and other sizes are products and a kernel for what follows', async () => {
  const apart = ['product', 'swiglu'];
  const others: [number[], number, On?][] = [
    [[4096, 200], 1000, { storage: 'float32' }],
    [[4096, 200], 1000, { architecture: 'sm_80' }],
    [[4096, 200], 1004],
    [[4096, 204], 1000],
    [[1000, 200], 33 * 128],
  ];
  for (const [shape, width, on] of others)
    assert.equal(namesOf(await queued(shape, width, on)), apart, `${shape.join('x')} to ${width}`);
  assert.equal(namesOf(await queued([4, 200], 1000)), ['gemv_swiglu']);
});

test('tiles for a few multiprocessors more than there are leave most of them idle', () => {
  const suits = (rows: number, width: number): boolean =>
    suitsSwigluHopper(rows, width, 3072, MULTIPROCESSORS);
  assert.ok(suits(8192, 8192));
  assert.ok(suits(1536, 11 * 128), 'one for each');
  assert.not.ok(suits(1536, 12 * 128), 'six more than for each');
  assert.not.ok(suits(1536, 9 * 128), 'too few');
});

test.run();
