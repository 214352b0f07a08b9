/** The caching allocator of the CUDA engine, on memory that is only counted. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Block,
  CachingAllocator,
  blockSize,
  segmentBytes,
} from '../../../src/engines/cuda/allocator.js';
import { RunError } from '../../../src/errors.js';

const test = suite('cuda allocator');
const MIB = 2 ** 20;

/** Device memory of a given size that hands out distinct addresses. */
class FakeMemory {
  readonly segments = new Map<number, number>();
  private next = 2 ** 40;

  constructor(private readonly capacity: number) {}

  get used(): number {
    return [...this.segments.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  allocate(bytes: number): number | null {
    if (this.used + bytes > this.capacity) return null;
    const address = this.next;
    this.next += bytes + 4096;
    this.segments.set(address, bytes);
    return address;
  }

  free(address: number): void {
    assert.ok(this.segments.delete(address), 'freed a segment that is not there');
  }
}

test('the allocator never overlaps blocks, counts exactly, and returns everything', () => {
  const step = fc.record({
    bytes: fc.integer({ min: 0, max: 40 * MIB }),
    free: fc.nat(),
    small: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const memory = new FakeMemory(2 ** 40);
      const allocator = new CachingAllocator(memory);
      const held: [Block, number][] = [];
      let peak = 0;
      for (const { bytes, free, small } of steps) {
        if (free % 3 === 0 && held.length > 0) {
          const [[block] = []] = held.splice(free % held.length, 1);
          allocator.release(block as Block);
        } else {
          const size = small ? bytes % 5000 : bytes;
          held.push([allocator.allocate(size), size]);
        }
        const live = held.reduce((sum, [, size]) => sum + size, 0);
        peak = Math.max(peak, live);
        assert.is(allocator.memory().liveBytes, live);
        assert.is(allocator.memory().peakBytes, peak);
        assert.is(allocator.memory().reservedBytes, memory.used);
        const sorted = held.map(([block, size]) => [block.pointer, size] as const).sort(([a], [b]) => a - b);
        sorted.forEach(([start, size], i) => {
          const after = sorted[i + 1];
          assert.ok(after === undefined || start + size <= after[0], 'blocks overlap');
          assert.is(start % 512, 0);
        });
      }
      for (const [block] of held) allocator.release(block);
      allocator.trim();
      assert.equal(allocator.memory(), { liveBytes: 0, peakBytes: peak, reservedBytes: 0 });
      assert.is(memory.used, 0);
    }),
    { numRuns: 60 },
  );
});

test('freed blocks are reused, and a full device gives back its free segments first', () => {
  const memory = new FakeMemory(100 * MIB);
  const allocator = new CachingAllocator(memory);
  const first = allocator.allocate(60 * MIB);
  allocator.release(first);
  assert.is(allocator.allocate(50 * MIB).pointer, first.pointer, 'the same memory again');
  const other = allocator.allocate(34 * MIB);
  allocator.release(other);
  assert.is(allocator.cachedBytes, memory.used - 50 * MIB);
  allocator.allocate(38 * MIB);
  assert.ok(!memory.segments.has(other.pointer), 'the free segment went back');
  assert.throws(
    () => allocator.allocate(90 * MIB),
    (error: unknown) => error instanceof RunError && /out of GPU memory/.test(error.message),
  );
  assert.throws(() => {
    allocator.release(other);
  });
  assert.is(segmentBytes(1000), 2 * MIB);
  assert.is(segmentBytes(33 * MIB + 1), 34 * MIB);
});

test('blocks in a row lie side by side, count what was asked for, and are released one by one', () => {
  for (const bytes of [100, 512, 3 * MIB + 1, 20 * MIB]) {
    const memory = new FakeMemory(2 ** 40);
    const allocator = new CachingAllocator(memory);
    const before = allocator.allocate(bytes);
    const row = allocator.allocateRow(bytes, 3);
    const apart = blockSize(bytes);
    assert.ok(apart >= bytes && apart % 512 === 0);
    const [first = 0, ...others] = row.map(({ pointer }) => pointer);
    assert.equal(others, [first + apart, first + 2 * apart]);
    assert.is(allocator.memory().liveBytes, 4 * bytes);
    const [left, middle, right] = row as [Block, Block, Block];
    allocator.release(middle);
    const again = allocator.allocate(bytes);
    assert.is(again.pointer, middle.pointer, 'the gap is used');
    for (const block of [left, right, again, before]) allocator.release(block);
    assert.is(allocator.memory().liveBytes, 0);
    allocator.trim();
    assert.is(memory.used, 0, 'all pieces became one');
  }
});

test('the segment of a block that is discarded goes back unless something else is in it', () => {
  const memory = new FakeMemory(2 ** 40);
  const allocator = new CachingAllocator(memory);
  const [large, cached, small, neighbour] = [20 * MIB, 30 * MIB, 1000, 1000].map((bytes) =>
    allocator.allocate(bytes),
  ) as [Block, Block, Block, Block];
  allocator.release(cached);
  allocator.discard(large);
  assert.is(memory.used, 32 * MIB, 'what is cached stays');
  allocator.discard(small);
  assert.is(memory.used, 32 * MIB);
  allocator.discard(neighbour);
  assert.is(memory.used, 30 * MIB);
  assert.is(allocator.memory().reservedBytes, memory.used);
});

test.run();
