/** Memory that the CPU engine reuses, and large pages of it. */
import { existsSync, readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCpu } from '../../../src/engines/cpu/index.js';
import { loadNative, type Native } from '../../../src/engines/cpu/native/library.js';
import { BufferPool } from '../../../src/engines/cpu/pool.js';
import { CpuBackend } from '../../../src/engines/cpu/backend.js';
import * as tf from '../../../src/tf.js';
import { skipBecause } from '../../skip.js';

const test = suite('cpu engine: pool');

const MIB = 2 ** 20;
/** Floats of so many MiB. */
const floats = (mebibytes: number): number => (mebibytes * MIB) / 4;

test('memory is handed out again', () => {
  const pool = new BufferPool();
  const first = pool.take(floats(1));
  assert.ok(pool.owns(first));
  pool.give(first);
  assert.not(pool.owns(first));
  assert.throws(() => {
    pool.give(first);
  }, /not in use/);
  assert.is(pool.take(floats(1) - 5).buffer, first.buffer);
  assert.equal(pool.memory(), { liveBytes: MIB - 20, peakBytes: MIB, reservedBytes: MIB });
});

/** Where arrays seem to lie, and what is asked for. */
function pretended(start: bigint): { native: Pick<Native, 'address' | 'large_pages'>; asked: number[][] } {
  const asked: number[][] = [];
  return {
    asked,
    native: {
      address: (array) => start + BigInt(array.byteOffset),
      large_pages: (array, bytes) => {
        asked.push([(array as Float32Array).byteOffset, bytes as number]);
      },
    },
  };
}

test('large memory begins with a large page, and is asked for once', () => {
  for (const [start, at] of [
    [0x7f0000000010n, 2 * MIB - 16],
    [0x7f0000200000n, 0],
    [0x7f00003ffff0n, 16],
  ] as const) {
    const { native, asked } = pretended(start);
    const pool = new BufferPool(native);
    const array = pool.take(floats(8) - 3);
    assert.equal([array.byteOffset, array.length], [at, floats(8) - 3]);
    pool.give(array);
    const again = pool.take(floats(8));
    assert.equal([again.byteOffset, again.length], [at, floats(8)]);
    assert.is(again.buffer, array.buffer);
    assert.is(pool.memory().reservedBytes, 8 * MIB);
    pool.take(floats(3));
    assert.equal(asked, [[at, 8 * MIB]]);
  }
});

/** Ranges of this process' memory for which large pages are asked for. */
function askedFor(): { from: bigint; to: bigint }[] {
  const entries = readFileSync('/proc/self/smaps', 'utf8').matchAll(
    /^([0-9a-f]+)-([0-9a-f]+) [^]*?^VmFlags:(.*)$/gm,
  );
  return [...entries]
    .filter(([, , , flags]) => flags?.split(' ').includes('hg'))
    .map(([, from, to]) => ({ from: BigInt(`0x${from ?? ''}`), to: BigInt(`0x${to ?? ''}`) }));
}

const isAskedFor = (from: bigint, bytes: number): boolean =>
  askedFor().some((range) => range.from <= from && from + BigInt(bytes) <= range.to);

function whyNot(): string | null {
  const setting = '/sys/kernel/mm/transparent_hugepage/enabled';
  if (!existsSync(setting) || !existsSync('/proc/self/smaps')) return 'a system without large pages';
  if (readFileSync(setting, 'utf8').includes('[never]')) return 'large pages are turned off';
  return loadNative(1).native ? null : 'no C compiler when the package was installed';
}

function add(title: string, run: () => Promise<void> | void): void {
  const reason = whyNot();
  if (reason === null) test(title, run);
  else skipBecause(reason, test, title);
}

add('tensors of floats and of integers lie in large pages', async () => {
  await startCpu({ threads: 1 }, { native: true });
  const backend = tf.backend();
  if (!(backend instanceof CpuBackend)) throw new TypeError('another backend');
  for (const dtype of ['float32', 'int32'] as const) {
    const tensor = tf.fill([floats(40)], 3, dtype);
    const values = dtype === 'int32' ? backend.integers(tensor) : backend.floats(tensor);
    const address = backend.native?.address(values) ?? 0n;
    assert.is(address % BigInt(2 * MIB), 0n);
    assert.ok(isAskedFor(address, 40 * MIB), dtype);
    assert.ok(values.every((value) => value === 3));
    tensor.dispose();
  }
});

add('memory of the kernels lies in large pages', () => {
  const { native } = loadNative(1);
  const bytes = (): bigint => askedFor().reduce((sum, { from, to }) => sum + to - from, 0n);
  const before = bytes();
  // So much that no memory that is already there is used.
  const [n, k] = [40_000, 256];
  native?.product(new Float32Array(k), new Float32Array(k * n), null, new Float32Array(n), 1, n, k, 0, 0);
  assert.ok(bytes() - before >= BigInt(4 * k * n), `${bytes() - before}`);
});

test.run();
