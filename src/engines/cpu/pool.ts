/**
 * Memory for tensors: array buffers that are handed out again instead of being left to the garbage collector,
 * with exact accounting. JavaScript zeroes every new buffer, and fresh pages must be mapped on first touch;
 * reuse saves both. What is large lies in large pages.
 */
import type { EngineMemory } from '../engine.js';
import type { Native } from './native/library.js';

/** Below this a new array costs less than keeping the old one. */
const SMALLEST_POOLED = 16 * 1024;

/** Bytes of a large page, as in `native/sources/pool.c`. */
const LARGE_PAGE = 2 ** 21;

/** From here on memory lies in large pages where the system has them: reading ahead stops at the end of a page. */
const SMALLEST_LARGE = 2 * LARGE_PAGE;

type LargePages = Pick<Native, 'address' | 'large_pages'>;

/** What the pool may hold: these bytes and this multiple of its peak use. */
const SPARE_BYTES = 2 ** 27;
const SPARE_SHARE = 1.25;

/** Rounds up to one of four sizes per power of two, so that similar sizes can share buffers. */
function sizeClass(bytes: number): number {
  if (bytes < SMALLEST_POOLED) return bytes;
  const step = 2 ** Math.floor(Math.log2(bytes - 1)) / 4;
  return Math.ceil(bytes / step) * step;
}

/** Memory of a size class: part of a buffer that may begin before it. */
interface Block {
  readonly buffer: ArrayBuffer;
  readonly at: number;
  readonly size: number;
}

export class BufferPool {
  /** Free blocks by size class, the most recently returned last. */
  private readonly free = new Map<number, Block[]>();
  /** Blocks of this pool that are in use, by their buffers. */
  private readonly taken = new WeakMap<ArrayBuffer, Block>();
  private live = 0;
  private peak = 0;
  /** Bytes of tensors whose memory is not the pool's, part of `live`. */
  private foreignBytes = 0;
  private unusedBytes = 0;
  private takenBytes = 0;
  private largestTaken = 0;

  /** @param native asks the system for large pages; null: nobody does */
  constructor(private readonly native: LargePages | null = null) {}

  /** An array of `length` floats with undefined contents. */
  take(length: number): Float32Array<ArrayBuffer> {
    const bytes = length * 4;
    const size = sizeClass(bytes);
    const block = this.reuse(size) ?? this.create(size);
    this.taken.set(block.buffer, block);
    this.takenBytes += size;
    this.largestTaken = Math.max(this.largestTaken, this.takenBytes);
    this.grow(bytes);
    return new Float32Array(block.buffer, block.at, length);
  }

  /** Takes back an array that `take` gave out; nobody may read it afterwards. */
  give(array: Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>): void {
    const block = this.taken.get(array.buffer);
    if (!block) throw new Error('This array is not in use in this pool');
    this.taken.delete(array.buffer);
    const { size } = block;
    this.takenBytes -= size;
    this.grow(-array.byteLength);
    if (size < SMALLEST_POOLED) return;
    const list = this.free.get(size);
    if (list) list.push(block);
    else this.free.set(size, [block]);
    this.unusedBytes += size;
  }

  /** Whether the memory behind `array` belongs to this pool and is in use. */
  owns(array: ArrayBufferView): boolean {
    return array.buffer instanceof ArrayBuffer && this.taken.has(array.buffer);
  }

  /** Accounts for memory that tensors take (or, negative, give up) outside the pool. */
  countForeign(bytes: number): void {
    this.foreignBytes += bytes;
    this.grow(bytes);
  }

  memory(): EngineMemory {
    return {
      liveBytes: this.live,
      peakBytes: this.peak,
      reservedBytes: this.takenBytes + this.unusedBytes + this.foreignBytes,
    };
  }

  /** Bytes that can be handed out again without asking the system. */
  get freeBytes(): number {
    return this.unusedBytes;
  }

  resetPeak(): void {
    this.peak = this.live;
  }

  private grow(bytes: number): void {
    this.live += bytes;
    if (this.live > this.peak) this.peak = this.live;
  }

  private reuse(size: number): Block | undefined {
    const block = this.free.get(size)?.pop();
    if (block) this.unusedBytes -= size;
    return block;
  }

  /**
   * A new block. Free ones of other sizes are released where the pool would outgrow its peak use by more than it takes to
   * serve phases that need different sizes in turn without a new buffer (and its page faults) every time.
   */
  private create(size: number): Block {
    const limit = SPARE_BYTES + SPARE_SHARE * this.largestTaken;
    const allowed = Math.max(0, limit - this.takenBytes - size);
    for (const [other, list] of this.free) {
      while (this.unusedBytes > allowed && list.pop()) this.unusedBytes -= other;
      if (list.length === 0) this.free.delete(other);
    }
    return this.native && size >= SMALLEST_LARGE
      ? inLargePages(this.native, size)
      : { buffer: new ArrayBuffer(size), at: 0, size };
  }
}

/** A block that begins with a large page. What lies before and after it is never touched, so that the system gives no memory for it. */
function inLargePages(native: LargePages, size: number): Block {
  const buffer = new ArrayBuffer(size + LARGE_PAGE);
  const before = Number(native.address(new Float32Array(buffer)) % BigInt(LARGE_PAGE));
  const at = (LARGE_PAGE - before) % LARGE_PAGE;
  native.large_pages(new Float32Array(buffer, at), size);
  return { buffer, at, size };
}
