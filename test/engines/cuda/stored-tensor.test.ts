/** The forms in which the CUDA backend holds a tensor, on a device that computes nothing: what moves, and what memory is held. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CudaBackend } from '../../../src/engines/cuda/backend.js';
import type { TensorInfo } from '../../../src/tf.js';
import { standIn } from './stand-in.js';

const test = suite('cuda stored tensors');
const SIZE = 4096;
const [NARROW, WIDE] = [SIZE * 2, SIZE * 4];

function started() {
  const on = standIn();
  let downloads = 0;
  on.device.driver.download = () => downloads++;
  const backend = new CudaBackend(on.device);
  return {
    backend,
    bytes: (): number => on.device.allocator.memory().liveBytes,
    /** What was launched and sent since the last call. */
    moved: (): string[] => {
      const found = [
        ...on.uploads.splice(0).map(() => 'upload'),
        ...on.launches.splice(0).map(({ name }) => name),
        ...Array.from({ length: downloads }, () => 'download'),
      ];
      downloads = 0;
      return found;
    },
    written: (values: Float32Array | Int32Array, dtype: 'float32' | 'int32'): TensorInfo => {
      const shape = [values.length];
      return { dataId: backend.write(values, shape, dtype), shape, dtype };
    },
  };
}

test('values from the host end in the storage of the backend only', () => {
  const { backend, bytes, moved, written } = started();
  const x = written(new Float32Array(SIZE).fill(1), 'float32');
  assert.equal(moved(), ['upload', 'cast_raw_float32']);
  assert.is(bytes(), NARROW);
  assert.is(backend.storageFor(x), 'bfloat16');
  backend.release(x);
  const ids = written(new Int32Array(SIZE).fill(1), 'int32');
  assert.equal(moved(), ['upload']);
  assert.is(bytes(), WIDE);
  assert.is(backend.pointer(ids), backend.pointer(ids, 'float32'), 'integers have one form');
  assert.is(backend.storageFor(ids), 'float32');
  backend.release(ids);
  assert.is(bytes(), 0);
});

test('a few values stay on the host until a kernel asks for their address', () => {
  const { backend, bytes, moved, written } = started();
  const values = Float32Array.of(3);
  const one = written(values, 'float32');
  values[0] = 4;
  assert.is(backend.constant(one), 3, 'a copy');
  assert.equal([...(backend.readSync(one.dataId) as Float32Array)], [3]);
  assert.equal(moved(), []);
  assert.is(bytes(), 0);
  backend.pointer(one);
  assert.equal(moved(), ['upload', 'cast_raw_float32']);
  assert.is(backend.constant(one), null);
  assert.is(bytes(), 2, 'the float32 form has served its purpose');
});

test('what a kernel computed in float32 is kept beside what is derived from it', () => {
  const { backend, bytes, moved } = started();
  const x = backend.output([SIZE], 'float32', 'float32');
  assert.is(backend.storageFor(x), 'float32');
  const [wide, narrow] = [backend.pointer(x, 'float32'), backend.pointer(x)];
  assert.equal(moved(), ['cast_raw_float32']);
  assert.is(bytes(), WIDE + NARROW);
  assert.equal([backend.pointer(x, 'float32'), backend.pointer(x)], [wide, narrow]);
  assert.equal(moved(), [], 'derived once');
  backend.release(x);
  assert.is(bytes(), 0);
});

test('a change in place drops the other form, unless it is kept', () => {
  for (const [storage, held] of [
    ['bfloat16', NARROW],
    ['float32', WIDE],
  ] as const) {
    const { backend, bytes, moved } = started();
    const x = backend.output([SIZE], 'float32', 'float32');
    const address = { bfloat16: backend.pointer(x), float32: backend.pointer(x, 'float32') }[storage];
    assert.is(backend.writable(x, storage, true), address);
    assert.is(bytes(), WIDE + NARROW);
    assert.is(backend.writable(x, storage), address);
    assert.is(bytes(), held);
    assert.equal(moved(), ['cast_raw_float32']);
    backend.pointer(x, storage === 'float32' ? 'bfloat16' : 'float32');
    assert.equal(moved(), [storage === 'float32' ? 'cast_raw_float32' : 'cast_float32_raw'], 'derived anew');
  }
});

test('reading widens for as long as it takes', () => {
  const { backend, bytes, moved } = started();
  const x = backend.output([SIZE]);
  assert.is(backend.readSync(x.dataId).length, SIZE);
  assert.equal(moved(), ['cast_float32_raw', 'download']);
  assert.is(bytes(), NARROW);
  backend.pointer(x, 'float32');
  backend.readSync(x.dataId);
  assert.equal(moved(), ['cast_float32_raw', 'download']);
  assert.is(bytes(), NARROW + WIDE, 'what was there before stays');
  const none = backend.output([0]);
  assert.is(backend.readSync(none.dataId).length, 0);
  assert.equal(moved(), []);
});

test('memory is returned with the last reference', () => {
  const { backend, bytes } = started();
  const x = backend.output([SIZE]);
  const alias = backend.alias(x, [SIZE / 2, 2]);
  backend.release(x);
  assert.is(bytes(), NARROW);
  assert.is(backend.pointer(alias), backend.pointer(x));
  backend.release(alias);
  assert.is(bytes(), 0);
  assert.throws(() => backend.output([1], 'string'), /does not hold string/);
});

test('tensors are moved side by side, once', () => {
  const { backend, bytes, moved } = started();
  const [a, between, b] = [SIZE, 1, SIZE].map((size) => backend.output([size])) as [TensorInfo, TensorInfo, TensorInfo]; // prettier-ignore
  const held = bytes();
  assert.is(backend.sideBySide([b, a]), true);
  assert.equal(moved(), ['copy', 'copy']);
  assert.is(backend.pointer(a), backend.pointer(b) + NARROW);
  assert.is(bytes(), held, 'their old places are free');
  assert.is(backend.sideBySide([b, a]), true);
  assert.is(backend.sideBySide([a, b]), false, 'in another order');
  assert.is(backend.sideBySide([a, a]), false, 'one that lies in one place');
  assert.equal(moved(), []);
  // A form that is derived anew may be moved again.
  backend.writable(a, 'float32');
  backend.writable(b, 'float32');
  assert.is(backend.sideBySide([a, b]), true);
  assert.is(backend.pointer(b), backend.pointer(a) + NARROW);
  for (const info of [a, between, b]) backend.release(info);
  assert.is(bytes(), 0);
});

test('new tensors side by side are tensors like others', () => {
  const { backend, bytes, moved } = started();
  const [a, b, c] = backend.outputs([3, 5], 3) as [TensorInfo, TensorInfo, TensorInfo];
  assert.is(bytes(), 3 * 30);
  assert.is(backend.sideBySide([a, b, c]), true);
  assert.equal(moved(), []);
  for (const info of [b, a, c]) backend.release(info);
  assert.is(bytes(), 0);
});

test.run();
