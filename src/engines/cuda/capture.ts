/** What a recording notes instead of executing it, and the host memory that its kernels read. */
import type * as tf from '../../tf.js';
import type { CudaBackend } from './backend.js';
import type { Device } from './device.js';
import type { GemvChain } from './gemv-chain.js';

/** What kernels are launched with while a step is recorded. */
export interface CaptureContext {
  /** The position at which it is recorded, and the keys on this rank before it. */
  readonly position: number;
  readonly keys: number;
  /** The address from which kernels read the present position, and that of the keys, which follow it; null: neither moves. */
  readonly place: number | null;
  /** Whether kernels that can are launched early. */
  readonly early: boolean;
  /** Whether the step replaces this tensor by the next of its kind: then that may take its place in memory. */
  isReplaced(info: tf.TensorInfo): boolean;
  /** Address at which kernels will find these bytes, for as long as the recording lasts. */
  constant(bytes: ArrayBufferView): number;
  /** Takes products with few rows, if the recording chains them. */
  readonly chain: GemvChain | null;
}

/** Room for page tables: two addresses a page and layer. */
export const CONSTANT_BYTES = 2 ** 18;
/** That of tensor maps. */
const ALIGNMENT = 128;
/** Host memory that kernels of a recorded step read: collected first, uploaded at once after the recording. */
export class Constants {
  private readonly bytes = new Uint8Array(CONSTANT_BYTES);
  private used = 0;

  constructor(private readonly address: number) {}

  add(view: ArrayBufferView): number {
    const start = this.used;
    this.used = Math.ceil((start + view.byteLength) / ALIGNMENT) * ALIGNMENT;
    if (this.used > CONSTANT_BYTES) throw new Error('the step has more tables than a recording has room for');
    this.bytes.set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength), start);
    return this.address + start;
  }

  upload(backend: CudaBackend): void {
    if (this.used > 0) backend.device.driver.upload(this.address, this.bytes.subarray(0, this.used));
  }
}

/** The graph of what `work` queues, which is not executed. */
export function captured(device: Device, context: CaptureContext, work: () => void): number {
  const { driver } = device;
  try {
    driver.beginCapture();
    device.recording = context;
    work();
    context.chain?.flush();
    return driver.endCapture();
  } finally {
    driver.abandonCapture();
    device.recording = null;
  }
}
