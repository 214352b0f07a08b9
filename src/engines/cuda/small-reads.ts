/** Results of a few bytes, such as tokens, that are read while more work is queued. */
import type { Driver } from './driver.js';

const SLOT_BYTES = 1024;
const SLOTS = 32;

interface Slot {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly event: number;
}

/** Copies to host memory that the device writes by itself: the driver would have a copy to any other wait for the stream. */
export class SmallReads {
  /** Those that no copy is on its way to; null before the first read. */
  private idle: Slot[] | null = null;

  constructor(private readonly driver: Driver) {}

  /**
   * Queues a copy of device memory to `host`, whose bytes are there when the promise is kept. What the caller queues before it
   * waits runs meanwhile.
   * @returns null where there is no room for it: it must be read at once
   */
  begin(host: ArrayBufferView, address: number): Promise<void> | null {
    const { driver } = this;
    const size = host.byteLength;
    if (size > SLOT_BYTES) return null;
    this.idle ??= this.open();
    const { idle } = this;
    const slot = idle.pop();
    if (slot === undefined) return null;
    driver.downloadLater(slot.address, address, size);
    driver.recordEvent(slot.event);
    return Promise.resolve().then(() => {
      driver.waitEvent(slot.event);
      new Uint8Array(host.buffer, host.byteOffset, size).set(slot.bytes.subarray(0, size));
      idle.push(slot);
    });
  }

  private open(): Slot[] {
    const { address, bytes } = this.driver.allocateHost(SLOTS * SLOT_BYTES);
    return Array.from({ length: SLOTS }, (_, i) => ({
      address: address + i * SLOT_BYTES,
      bytes: new Uint8Array(bytes, i * SLOT_BYTES, SLOT_BYTES),
      event: this.driver.createEvent(),
    }));
  }
}
