/** Memory set aside for recorded steps, and the allocator's account beside the driver's. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Block, type SegmentSource, CachingAllocator } from '../../../src/engines/cuda/allocator.js';
import { WORKSPACE_BYTES } from '../../../src/engines/cuda/cublas.js';
import { startCuda, startOn } from '../../../src/engines/cuda/index.js';
import { usePlainBackend } from '../../plain-backend.js';
import { cudaBackend, gpuSuite } from './gpu.js';
import { standIn } from './stand-in.js';

const MIB = 2 ** 20;

/** Counts what is taken from it; addresses never repeat. */
class CountedMemory implements SegmentSource {
  readonly segments = new Map<number, number>();
  private next = 2 ** 40;

  get used(): number {
    return [...this.segments.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  allocate(bytes: number): number {
    const address = this.next;
    this.next += bytes;
    this.segments.set(address, bytes);
    return address;
  }

  free(address: number): void {
    assert.ok(this.segments.delete(address), 'freed a segment that is not there');
  }
}

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

const requested = (held: readonly Block[]): number => sum(held.map((block) => block.requested));

/** The parent's blocks and the pool's lie apart: segments of the pool count as blocks of the parent. */
function requireApart(blocks: readonly Block[]): void {
  const sorted = [...blocks].sort((a, b) => a.pointer - b.pointer);
  sorted.forEach(({ pointer, requested: bytes }, i) => {
    assert.ok(pointer + bytes <= (sorted[i + 1]?.pointer ?? Infinity), 'blocks overlap');
  });
}

const test = suite('memory set aside');
test.after(usePlainBackend);

const step = fc.record({
  bytes: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 40 * MIB })),
  isRelease: fc.boolean(),
  which: fc.nat(),
});

test('a pool takes whole segments of its parent, and both count what they hold', () => {
  const steps = fc.array(step, { maxLength: 25 });
  fc.assert(
    fc.property(steps, steps, steps, (before, inside, behind) => {
      const memory = new CountedMemory();
      const allocator = new CachingAllocator(memory);
      const held: Block[] = [];
      let peak = 0;
      const isOwn = ({ segment }: Block): boolean => segment.owner === allocator;
      const run = (script: typeof inside): void => {
        for (const { bytes, isRelease, which } of script) {
          if (!isRelease || held.length === 0) held.push(allocator.allocate(bytes));
          else allocator.release(held.splice(which % held.length, 1)[0] as Block);
          const pool = held.find((block) => !isOwn(block))?.segment.owner;
          const own = requested(held.filter(isOwn));
          const { liveBytes, peakBytes, reservedBytes } = allocator.memory();
          peak = Math.max(peak, liveBytes);
          assert.is(peakBytes, peak);
          assert.is(reservedBytes, memory.used);
          assert.ok(allocator.reservedPeakBytes >= reservedBytes);
          assert.ok(liveBytes <= reservedBytes);
          if (pool !== undefined) {
            assert.is(pool.memory().liveBytes, requested(held) - own);
            assert.is(liveBytes, own + pool.memory().reservedBytes, 'whole segments are live');
          }
          requireApart(held);
        }
      };
      run(before);
      const pool = allocator.setAside(() => {
        run(inside);
      });
      const setAside = pool.memory().reservedBytes;
      run(behind);
      assert.is(pool.memory().reservedBytes, setAside, 'what is released stays set aside');
      assert.is(allocator.memory().liveBytes, requested(held.filter(isOwn)) + setAside);
      pool.close();
      for (const block of held) allocator.release(block);
      assert.equal([pool.memory().liveBytes, pool.memory().reservedBytes], [0, 0]);
      assert.is(allocator.memory().liveBytes, 0);
      allocator.trim();
      assert.equal(allocator.memory(), { liveBytes: 0, peakBytes: peak, reservedBytes: 0 });
      assert.is(memory.used, 0);
    }),
    { numRuns: 80 },
  );
});

test('blocks from before are released and taken on the right side of the border', () => {
  const allocator = new CachingAllocator(new CountedMemory());
  const outside = allocator.allocate(3 * MIB);
  const pool = allocator.setAside(() => {
    const inside = allocator.allocate(3 * MIB);
    assert.is.not(inside.segment.owner, allocator);
    allocator.release(outside);
    allocator.release(inside);
    assert.is(allocator.allocate(3 * MIB).pointer, inside.pointer, 'the pool reuses its own');
  });
  assert.is(allocator.allocate(3 * MIB).pointer, outside.pointer, 'the parent its own');
  assert.equal(pool.memory(), { liveBytes: 3 * MIB, peakBytes: 3 * MIB, reservedBytes: 32 * MIB });
});

test('work that fails leaves nothing set aside', () => {
  const memory = new CountedMemory();
  const allocator = new CachingAllocator(memory);
  let block: Block | undefined;
  assert.throws(() => {
    allocator.setAside(() => {
      block = allocator.allocate(3 * MIB);
      allocator.release(allocator.allocate(50 * MIB));
      throw new Error('refused');
    });
  }, /refused/);
  assert.is(allocator.memory().liveBytes, 32 * MIB, 'the segment of the block that is held');
  allocator.release(block as Block);
  assert.is(allocator.memory().liveBytes, 0);
  allocator.release(allocator.allocate(MIB));
  allocator.trim();
  assert.is(memory.used, 0);
});

test('reserved memory is counted, is no tensor, and stays', () => {
  const memory = new CountedMemory();
  const allocator = new CachingAllocator(memory);
  allocator.reserve(WORKSPACE_BYTES);
  assert.equal(allocator.memory(), { liveBytes: 0, peakBytes: 0, reservedBytes: WORKSPACE_BYTES });
  const block = allocator.allocate(100 * MIB);
  allocator.release(block);
  allocator.trim();
  assert.is(allocator.memory().reservedBytes, WORKSPACE_BYTES);
  assert.is(allocator.reservedPeakBytes, WORKSPACE_BYTES + 100 * MIB);
  allocator.resetPeak();
  assert.is(allocator.reservedPeakBytes, WORKSPACE_BYTES);
});

test('the engine says what the driver counts beyond what was in use before', async () => {
  const { device } = standIn();
  let free = 70 * MIB;
  const driver = { ...device.driver, freeAtStart: 100 * MIB, memoryInfo: () => ({ free, total: 2 ** 37 }) };
  const engine = await startOn({ ...device, driver });
  device.allocator.release(device.allocator.allocate(10 * MIB));
  assert.equal(engine.deviceMemory?.read(), { reservedPeakBytes: 32 * MIB, usedBytes: 30 * MIB });
  free = 90 * MIB;
  engine.deviceMemory?.trim();
  engine.resetPeak();
  assert.equal(engine.deviceMemory?.read(), { reservedPeakBytes: 0, usedBytes: 10 * MIB });
});

test.run();

const onGpu = await gpuSuite('memory by the driver', { storage: 'bfloat16' });

/** Segments are multiples of what the driver gives out at a time. */
const GRANULARITY = 2 * MIB;

onGpu('what the allocator reserves and gives back is what the driver counts', async () => {
  const engine = await startCuda({ storage: 'bfloat16' });
  const { allocator, driver } = cudaBackend().device;
  assert.ok(engine.memory().reservedBytes >= WORKSPACE_BYTES, 'the workspace is counted');
  const change = (): { reserved: number; used: number } => {
    driver.synchronize();
    return { reserved: allocator.memory().reservedBytes, used: engine.deviceMemory?.read().usedBytes ?? NaN };
  };
  allocator.trim();
  const before = change();
  const requireAlike = (what: string, segments: number): void => {
    const now = change();
    const [reserved, used] = [now.reserved - before.reserved, now.used - before.used];
    assert.ok(Math.abs(used - reserved) <= segments * GRANULARITY, `${what}: ${reserved}, driver ${used}`);
  };
  const sizes = [1000, 3 * MIB, 40 * MIB + 1, 333 * MIB, 2048 * MIB];
  const blocks = sizes.map((bytes) => allocator.allocate(bytes));
  requireAlike('allocated', sizes.length);
  for (const block of blocks.splice(0, 4)) allocator.release(block);
  requireAlike('released, still reserved', sizes.length);
  allocator.trim();
  requireAlike('trimmed', 1);
  const pool = allocator.setAside(() => {
    blocks.push(allocator.allocate(100 * MIB));
  });
  requireAlike('set aside', 2);
  for (const block of blocks) allocator.release(block);
  pool.close();
  allocator.trim();
  requireAlike('all given back', 1);
  assert.is(allocator.memory().reservedBytes, before.reserved);
});

onGpu.run();
