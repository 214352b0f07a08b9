/**
 * Memory that the threads of the attention kernels share: one WebAssembly memory, which grows and is handed out in pieces. What is
 * given back is handed out again, not returned to the system.
 */

import { type SharedMemory, WebAssembly } from './webassembly.js';

export const PAGE_BYTES = 2 ** 16;
/** 4 GiB, which is all that 32-bit addresses reach, or what the system lets a process reserve. */
const MAXIMA = [2 ** 16, 2 ** 14, 2 ** 12];
const ALIGNMENT = 64;

interface Range {
  readonly at: number;
  readonly bytes: number;
}

export class SharedArena {
  /** Sorted by address; no two of them touch. */
  private free: Range[] = [];
  private freeTotal = 0;

  private constructor(
    readonly memory: SharedMemory,
    /** Pages of 64 KiB at most. */
    readonly maximum: number,
  ) {}

  /** Undefined where no such memory can be reserved. The first page is the caller's. */
  static create(): SharedArena | undefined {
    for (const maximum of MAXIMA)
      try {
        return new SharedArena(new WebAssembly.Memory({ initial: 1, maximum, shared: true }), maximum);
      } catch {
        continue;
      }
    return undefined;
  }

  /** Bytes that can be handed out again without growing. */
  get freeBytes(): number {
    return this.freeTotal;
  }

  owns(array: ArrayBufferView): boolean {
    return array.buffer instanceof SharedArrayBuffer;
  }

  /** The address of `bytes` bytes with undefined contents; undefined where there is no room. */
  take(bytes: number): number | undefined {
    const size = rounded(bytes);
    const index = this.free.findIndex((range) => range.bytes >= size);
    if (index < 0) return this.grow(size) ? this.take(bytes) : undefined;
    const { at, bytes: length } = this.free[index] as Range;
    const rest = length > size ? [{ at: at + size, bytes: length - size }] : [];
    this.free.splice(index, 1, ...rest);
    this.freeTotal -= size;
    return at;
  }

  give(at: number, bytes: number): void {
    const size = rounded(bytes);
    this.freeTotal += size;
    const next = this.free.findIndex((range) => range.at > at);
    const index = next < 0 ? this.free.length : next;
    const [before, after] = [this.free[index - 1], this.free[index]];
    const touchesBefore = before !== undefined && before.at + before.bytes === at;
    const touchesAfter = after !== undefined && at + size === after.at;
    const start = touchesBefore ? before.at : at;
    const end = touchesAfter ? after.at + after.bytes : at + size;
    this.free.splice(index - Number(touchesBefore), Number(touchesBefore) + Number(touchesAfter), {
      at: start,
      bytes: end - start,
    });
  }

  private grow(bytes: number): boolean {
    const at = this.memory.buffer.byteLength;
    const last = this.free.at(-1);
    const open = last !== undefined && last.at + last.bytes === at ? last.bytes : 0;
    const pages = Math.ceil((bytes - open) / PAGE_BYTES);
    if (at / PAGE_BYTES + pages > this.maximum) return false;
    try {
      this.memory.grow(pages);
    } catch {
      return false;
    }
    this.give(at, pages * PAGE_BYTES);
    return true;
  }
}

const rounded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
