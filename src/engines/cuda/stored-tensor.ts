import type { BackendValues, DataType } from '../../tf.js';
import type { StorageType } from '../engine.js';
import type { Block } from './allocator.js';
import type { CudaBackend } from './backend.js';
import { Float8Rows } from './float8-rows.js';

/** Logical types that live on the device. */
export type DeviceType = 'float32' | 'int32' | 'bool';
type HostValues = Float32Array | Int32Array | Uint8Array;

const KEEP_ON_HOST = 64;

/**
 * What the backend holds of one tensor. A logical float32 tensor may exist in the backend's 16-bit storage (narrow), in
 * float32 (wide: losses, recurrent state, optimizer state, master weights) or both; each is derived from the other when
 * first needed. Integers, booleans and everything under float32 storage are wide.
 *
 * A tensor may also exist in float8, rounded row by row from the form of the backend's storage for products that want it so; where that
 * is the only form, its values are the tensor's, and the others are derived from it without rounding.
 */
export class StoredTensor {
  private narrow: Block | null = null;
  private wide: Block | null = null;
  private float8: Float8Rows | null = null;
  /** Values not uploaded yet: constants often serve as kernel arguments and never need to be. */
  private values: HostValues | null = null;
  /** Whether the float32 form came from the host. */
  private uploaded = false;
  /** Zeros that no kernel has asked for yet. */
  private zeros = false;
  /** Whether its place is final: it was moved there, or a recording knows it. */
  private settled = false;

  constructor(
    private readonly backend: CudaBackend,
    readonly dtype: DeviceType,
    readonly size: number,
    public refCount = 1,
  ) {}

  get isNarrow(): boolean {
    return this.narrow !== null || this.float8 !== null;
  }

  /** Whether these are zeros in no form yet. */
  get isZeros(): boolean {
    return this.zeros;
  }

  /** The values, while they are on the host only. */
  get host(): HostValues | null {
    return this.values;
  }

  /** Whether the form of the backend's storage may be moved. */
  get isMovable(): boolean {
    return !this.settled;
  }

  /** Makes room for values that are to be written on the device; `storage` float32 keeps them at full precision. */
  allocate(storage: StorageType, block = this.room(storage)): Block {
    this[this.isKeptWide(storage) ? 'wide' : 'narrow'] = block;
    return block;
  }

  /** Device address, in the given storage. */
  pointer(storage: StorageType): number {
    if (this.backend.device.recording !== null) this.settled = true;
    return this.form(storage).pointer;
  }

  /** Makes room for float8 rows of `width` elements that are to be written: the values, or those of the other form, rounded. */
  allocateFloat8(width: number): Float8Rows {
    return (this.float8 = new Float8Rows(this.backend, this.size, width));
  }

  /** The tensor in float8 rows of `width` elements. */
  inFloat8(width: number): Float8Rows {
    if (this.float8?.width === width) return this.float8;
    const from = this.pointer(this.backend.storage);
    this.dropFloat8();
    this.allocateFloat8(width).round(from);
    return this.float8 as unknown as Float8Rows;
  }

  /** Leaves the tensor in float8 rows of `width` elements alone: its values become the rounded ones. */
  keepFloat8(width: number): void {
    this.inFloat8(width);
    this.drop('narrow');
    this.drop('wide');
  }

  /** Moves the form of the backend's storage into a block, once. */
  move(block: Block): void {
    const { storage, device } = this.backend;
    const old = this.form(storage);
    this.backend.copy(block.pointer, old.pointer, this.size * this.backend.elementBytes(this.dtype, storage));
    this[this.isKeptWide(storage) ? 'wide' : 'narrow'] = block;
    this.settled = true;
    device.allocator.discard(old);
  }

  /** Address for changing the tensor in place: the other form, if any, is dropped, unless `keep`, and that in float8. */
  writable(storage: StorageType, keep: boolean): number {
    const address = this.pointer(storage);
    this.dropFloat8();
    if (keep || this.backend.storage === 'float32' || this.dtype !== 'float32') return address;
    this.drop(storage === 'float32' ? 'narrow' : 'wide');
    return address;
  }

  /** Takes values from the host. */
  write(values: BackendValues): void {
    const typed = hostValues(values, this.dtype);
    this.values = typed;
    this.uploaded = true;
    // The caller may change its array later: small ones are copied, large ones uploaded at once, in the form kernels use.
    if (this.size <= KEEP_ON_HOST) this.values = typed.slice();
    else if (isZero(typed)) this.leaveZeros();
    else this.form(this.backend.storage);
  }

  /** The values, once all that is queued has run. */
  read(): HostValues {
    const { driver } = this.backend.device;
    return this.copied((found, address) => {
      driver.download(found, address);
      return found;
    });
  }

  /** The values, once all that is queued now has run; of a large tensor, before this returns. */
  readLater(): Promise<HostValues> {
    const { driver, smallReads } = this.backend.device;
    const values = this.copied<HostValues | Promise<HostValues>>((found, address) => {
      const reading = smallReads.begin(found, address);
      if (reading !== null) return reading.then(() => found);
      driver.download(found, address);
      return found;
    });
    return Promise.resolve(values);
  }

  /** @param copy has the bytes at a device address copied to the host */
  private copied<T>(copy: (found: HostValues, address: number) => T): T | HostValues {
    if (this.values !== null) return this.values.slice();
    const found = hostArray(this.dtype, this.size);
    if (this.size === 0 || this.zeros) return found;
    const temporary = this.wide === null;
    const result = copy(found, this.asWide().pointer);
    if (temporary) this.drop('wide');
    return result;
  }

  release(): void {
    this.drop('narrow');
    this.drop('wide');
    this.dropFloat8();
  }

  private isKeptWide(storage: StorageType): boolean {
    return this.dtype !== 'float32' || storage === 'float32';
  }

  private form(storage: StorageType): Block {
    return this.isKeptWide(storage) ? this.asWide() : this.asNarrow();
  }

  /** As float32, or as what it is if integer or boolean. */
  private asWide(): Block {
    if (this.wide !== null) return this.wide;
    const { values, narrow, size } = this;
    this.wide = this.room('float32');
    if (this.zeros) this.clear(this.wide, 'float32');
    else if (values !== null) {
      if (size > 0) this.backend.device.driver.upload(this.wide.pointer, values);
      this.values = null;
    } else if (narrow !== null) {
      this.backend.cast('float32_raw', narrow.pointer, this.wide.pointer, size);
    } else this.float8?.widen(this.wide.pointer, 'float32');
    return this.wide;
  }

  private asNarrow(): Block {
    if (this.narrow !== null) return this.narrow;
    if (this.zeros) return this.clear((this.narrow = this.room(this.backend.storage)), this.backend.storage);
    if (this.float8 !== null) {
      this.narrow = this.room(this.backend.storage);
      this.float8.widen(this.narrow.pointer, this.backend.storage);
      return this.narrow;
    }
    const uploaded = this.values !== null || this.uploaded;
    const wide = this.asWide();
    this.narrow = this.room(this.backend.storage);
    this.backend.cast('raw_float32', wide.pointer, this.narrow.pointer, this.size);
    // What the host sent has served its purpose; what a kernel computed in float32 is worth keeping.
    if (uploaded) this.drop('wide');
    return this.narrow;
  }

  /**
   * Zeros are written by the device when they are asked for, in the form that is: an upload would wait until all that is queued
   * has run. tfjs makes the gradients of unused outputs on the host, such as of gated retention's last state.
   */
  private leaveZeros(): void {
    this.zeros = true;
    this.values = null;
  }

  private clear(block: Block, storage: StorageType): Block {
    this.backend.fill(block.pointer, this.size * this.backend.elementBytes(this.dtype, storage), 0);
    this.zeros = false;
    return block;
  }

  private room(storage: StorageType): Block {
    return this.backend.device.allocator.allocate(this.size * this.backend.elementBytes(this.dtype, storage));
  }

  private drop(form: 'narrow' | 'wide'): void {
    const block = this[form];
    if (block === null) return;
    this.backend.device.allocator.release(block);
    this[form] = null;
    if (form === (this.isKeptWide(this.backend.storage) ? 'wide' : 'narrow')) this.settled = false;
  }

  private dropFloat8(): void {
    this.float8?.release();
    this.float8 = null;
  }
}

export function deviceType(dtype: DataType): DeviceType {
  if (dtype === 'float32' || dtype === 'int32' || dtype === 'bool') return dtype;
  throw new Error(`the cuda engine does not hold ${dtype} tensors`);
}

const ZEROS = Buffer.alloc(2 ** 16);

function isZero(values: HostValues): boolean {
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  for (let start = 0; start < bytes.length; start += ZEROS.length) {
    const part = bytes.subarray(start, start + ZEROS.length);
    if (!part.equals(ZEROS.subarray(0, part.length))) return false;
  }
  return true;
}

function hostArray(dtype: DeviceType, size: number): HostValues {
  if (dtype === 'float32') return new Float32Array(size);
  return dtype === 'int32' ? new Int32Array(size) : new Uint8Array(size);
}

function hostValues(values: BackendValues, dtype: DeviceType): HostValues {
  if (dtype === 'float32')
    return values instanceof Float32Array ? values : Float32Array.from(values as ArrayLike<number>);
  if (dtype === 'int32')
    return values instanceof Int32Array ? values : Int32Array.from(values as ArrayLike<number>);
  return values instanceof Uint8Array ? values : Uint8Array.from(values as ArrayLike<number>, Number);
}
