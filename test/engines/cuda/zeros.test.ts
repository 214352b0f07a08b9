/** Large arrays of zeros are made on the device, in the form that is first asked for; everything else is uploaded. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CudaBackend } from '../../../src/engines/cuda/backend.js';
import { standIn } from './stand-in.js';

const test = suite('cuda zeros');
const SIZE = 50_000;

function sent(
  values: Float32Array | Int32Array,
  dtype: 'float32' | 'int32',
): { fills: number; uploads: number } {
  const state = standIn();
  const backend = new CudaBackend(state.device);
  const shape = [values.length];
  backend.pointer({ dataId: backend.write(values, shape, dtype), shape, dtype });
  return {
    fills: state.launches.filter(({ name }) => name === 'fill').length,
    uploads: state.uploads.length,
  };
}

test('zeros are not uploaded', () => {
  assert.equal(sent(new Float32Array(SIZE), 'float32'), { fills: 1, uploads: 0 });
  assert.equal(sent(new Int32Array(SIZE), 'int32'), { fills: 1, uploads: 0 });
});

test('a single other value, wherever it is, is', () => {
  for (const at of [0, 16_383, 16_384, SIZE - 1]) {
    const values = new Float32Array(SIZE);
    values[at] = 1e-30;
    assert.equal(sent(values, 'float32'), { fills: 0, uploads: 1 }, String(at));
  }
});

test('only the given part of a larger array counts', () => {
  const values = new Float32Array(SIZE + 2);
  values[0] = values[SIZE + 1] = 1;
  assert.equal(sent(values.subarray(1, SIZE + 1), 'float32'), { fills: 1, uploads: 0 });
});

test('zeros are made in the form that is asked for, once', () => {
  const on = standIn();
  const backend = new CudaBackend(on.device);
  const shape = [SIZE];
  const zeros = {
    dataId: backend.write(new Float32Array(SIZE), shape, 'float32'),
    shape,
    dtype: 'float32',
  } as const;
  const live = (): number => on.device.allocator.memory().liveBytes;
  assert.equal([...new Set(backend.readSync(zeros.dataId) as Float32Array)], [0]);
  assert.is(live(), 0);
  backend.pointer(zeros, 'float32');
  assert.is(live(), SIZE * 4);
  backend.pointer(zeros);
  assert.equal(on.launches.map(({ name }) => name), ['fill', 'cast_raw_float32']); // prettier-ignore
  backend.release(zeros);
  assert.is(live(), 0);
});

test.run();
