import {
  type BackendTimingInfo,
  type BackendValues,
  type DataId,
  DataStorage,
  type DataType,
  KernelBackend,
  type TensorInfo,
  engine as tfEngine,
} from '../../tf.js';
import type { StorageType } from '../engine.js';
import type { Block } from './allocator.js';
import type { MatrixProducts } from './cublas.js';
import { type Device, type Grid, type KernelName, STORAGE_BYTES } from './device.js';
import { type KernelArgument, int32, int64, pointer } from './launch.js';
import { sizeOf } from './walk.js';

/** The name under which the backend is registered with tfjs. */
export const CUDA_BACKEND = 'yoco-cuda';

/** Logical types that live on the device. */
export type DeviceType = 'float32' | 'int32' | 'bool';
type HostValues = Float32Array | Int32Array | Uint8Array;

/**
 * A logical float32 tensor may exist in the backend's 16-bit storage (`narrow`), in float32 (`wide`: losses,
 * recurrent state, optimizer state, master weights) or both; each is derived from the other when first needed.
 * Integers, booleans and everything under float32 storage are `wide`.
 */
interface Stored {
  readonly dtype: DeviceType;
  readonly size: number;
  refCount: number;
  narrow: Block | null;
  wide: Block | null;
  /** Values not uploaded yet: constants often serve as kernel arguments and never need to be. */
  host: HostValues | null;
  /** Whether the float32 form came from the host. */
  uploaded: boolean;
}

const KEEP_ON_HOST = 64;
export const THREADS = 256;

function deviceType(dtype: DataType): DeviceType {
  if (dtype === 'float32' || dtype === 'int32' || dtype === 'bool') return dtype;
  throw new Error(`the cuda engine does not hold ${dtype} tensors`);
}

/** A tfjs backend on one GPU. Kernels are queued on one stream; only `read` waits. */
export class CudaBackend extends KernelBackend {
  private readonly data: DataStorage<Stored>;
  readonly storage: StorageType;

  constructor(readonly device: Device) {
    super();
    this.storage = device.storage;
    this.data = new DataStorage(this, tfEngine());
  }

  // --- tensors -------------------------------------------------------------------------------------------------

  /** An unwritten tensor; `storage` float32 keeps a logical float32 tensor at full precision. */
  output(
    shape: readonly number[],
    dtype: DataType = 'float32',
    storage: StorageType = this.storage,
  ): TensorInfo {
    const info = { dataId: {}, shape: [...shape], dtype };
    const size = sizeOf(shape);
    const block = this.device.allocator.allocate(size * this.elementBytes(dtype, storage));
    const isWide = dtype !== 'float32' || storage === 'float32';
    this.data.set(info.dataId, {
      dtype: deviceType(dtype), size, refCount: 1, uploaded: false, host: null, wide: isWide ? block : null, narrow: isWide ? null : block,
    }); // prettier-ignore
    return info;
  }

  /** The same data under another shape. */
  alias(info: TensorInfo, shape: readonly number[], dtype: DataType = info.dtype): TensorInfo {
    this.incRef(info.dataId);
    return { dataId: info.dataId, shape: [...shape], dtype };
  }

  release(info: TensorInfo): void {
    this.disposeData(info.dataId);
  }

  /** Device address of a tensor, in the backend's storage or another. */
  pointer(info: TensorInfo, storage: StorageType = this.storage): number {
    const stored = this.data.get(info.dataId);
    if (stored.dtype !== 'float32' || storage === 'float32') return this.wide(stored).pointer;
    return this.narrow(stored).pointer;
  }

  /**
   * Address for changing a tensor in place; the other representation, if any, is dropped. `keep` leaves it, for a
   * kernel that writes both.
   */
  writable(info: TensorInfo, storage: StorageType = this.storage, keep = false): number {
    const address = this.pointer(info, storage);
    const stored = this.data.get(info.dataId);
    if (keep || this.storage === 'float32' || stored.dtype !== 'float32') return address;
    const other = storage === 'float32' ? 'narrow' : 'wide';
    if (stored[other] !== null) this.device.allocator.release(stored[other]);
    stored[other] = null;
    return address;
  }

  /** Float32 when every operand is kept (or only known) in float32: then so is the result of a generic kernel. */
  storageFor(...operands: readonly TensorInfo[]): StorageType {
    const narrow = operands.some((info) => this.data.get(info.dataId).narrow !== null);
    return narrow ? this.storage : 'float32';
  }

  /** The value of a one-element tensor that is still on the host, to be passed as a kernel argument. */
  constant(info: TensorInfo): number | null {
    const { host, size } = this.data.get(info.dataId);
    return size === 1 ? (host?.[0] ?? null) : null;
  }

  /** Bytes per element of a tensor. */
  elementBytes(dtype: DataType, storage: StorageType = this.storage): number {
    if (dtype === 'bool') return 1;
    return dtype === 'int32' ? 4 : STORAGE_BYTES[storage];
  }

  // --- work ----------------------------------------------------------------------------------------------------

  /** Queues a kernel; without work (an empty grid) nothing happens. */
  launch(kernel: KernelName, grid: Grid, threads: number, args: readonly KernelArgument[], shared = 0): void {
    if (grid[0] === 0) return;
    this.settle();
    this.device.launch(kernel, grid, threads, args, shared);
  }

  /** Queues a copy between device addresses. */
  copy(to: number, from: number, bytes: number): void {
    this.settle();
    this.device.driver.copy(to, from, bytes);
  }

  fill(address: number, bytes: number, byte: number): void {
    this.settle();
    this.device.driver.fill(address, bytes, byte);
  }

  /** Queues a matrix product of cuBLASLt. */
  multiply(...problem: Parameters<MatrixProducts['run']>): void {
    this.settle();
    this.device.products.run(...problem);
  }

  /** Launches what a recording has put off: before anything else is queued. */
  private settle(): void {
    this.device.recording?.chain?.flush();
  }

  /** Blocks of {@link THREADS} for a loop over `size` elements, `perThread` at a time. */
  blocks(size: number, perThread = 1): Grid {
    return [Math.min(Math.ceil(size / (THREADS * perThread)), this.device.driver.multiprocessors * 32)];
  }

  /**
   * A number that grows with the position of a step, as two arguments: where the position is read from (0: nowhere), and
   * what is added to it.
   */
  moving(value: number): [KernelArgument, KernelArgument] {
    const { recording } = this.device;
    if (recording === null) return [pointer(0), int32(value)];
    return [pointer(recording.place), int32(value - recording.position)];
  }

  /** Makes host memory available to kernels for the length of `use`, or for as long as a recording lasts. */
  uploaded(bytes: ArrayBufferView, use: (address: number) => void): void {
    const { driver, recording } = this.device;
    if (recording !== null) {
      use(recording.constant(bytes));
      return;
    }
    this.scratch(bytes.byteLength, (address) => {
      driver.upload(address, bytes);
      use(address);
    });
  }

  /** The tensor's bytes on the device, in the backend's storage. */
  bytesOf(info: TensorInfo): number {
    return sizeOf(info.shape) * this.elementBytes(info.dtype, this.storageFor(info));
  }

  /** Copies one tensor's values over another's of equal size, from wherever they are. */
  overwrite(to: TensorInfo, from: TensorInfo): void {
    const { host } = this.data.get(from.dataId);
    if (host !== null) {
      this.device.driver.upload(this.writable(to, 'float32'), host);
      return;
    }
    const storage = this.storageFor(to);
    this.copy(this.writable(to, storage), this.pointer(from, storage), this.bytesOf(to));
  }

  /** Device memory that is not a tensor, for the length of `use`. */
  scratch<T>(bytes: number, use: (address: number) => T): T {
    const block = this.device.allocator.allocate(bytes);
    try {
      return use(block.pointer);
    } finally {
      this.device.allocator.release(block);
    }
  }

  /** Runs one of the `cast_*` kernels; `raw` in its name means plain float32. */
  cast(name: string, from: number, to: number, size: number): void {
    const args = [pointer(from), pointer(to), int64(size)];
    this.launch({ file: 'elementwise', name: `cast_${name}` }, this.blocks(size), THREADS, args);
  }

  /** The tensor as float32, or as what it is if integer or boolean. */
  private wide(stored: Stored): Block {
    if (stored.wide !== null) return stored.wide;
    const { allocator, driver } = this.device;
    const { host, narrow, size } = stored;
    stored.wide = allocator.allocate(size * (stored.dtype === 'bool' ? 1 : 4));
    if (host !== null) {
      if (size > 0) driver.upload(stored.wide.pointer, host);
      stored.host = null;
    } else if (narrow !== null) {
      this.cast('float32_raw', narrow.pointer, stored.wide.pointer, size);
    }
    return stored.wide;
  }

  private narrow(stored: Stored): Block {
    if (stored.narrow !== null) return stored.narrow;
    const uploaded = stored.host !== null || stored.uploaded;
    const wide = this.wide(stored);
    stored.narrow = this.device.allocator.allocate(stored.size * STORAGE_BYTES[this.storage]);
    this.cast('raw_float32', wide.pointer, stored.narrow.pointer, stored.size);
    // What the host sent has served its purpose; what a kernel computed in float32 is worth keeping.
    if (uploaded) {
      this.device.allocator.release(wide);
      stored.wide = null;
    }
    return stored.narrow;
  }

  /**
   * Zeros are written by the device: an upload would wait until all that is queued has run. tfjs makes the gradients of
   * unused outputs on the host, such as of gated retention's last state.
   */
  private clear(stored: Stored): void {
    const form = stored.dtype === 'float32' && this.storage !== 'float32' ? 'narrow' : 'wide';
    const bytes = stored.size * this.elementBytes(stored.dtype);
    const block = this.device.allocator.allocate(bytes);
    this.fill(block.pointer, bytes, 0);
    stored[form] = block;
    stored.host = null;
  }

  // --- KernelBackend -------------------------------------------------------------------------------------------

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  override move(
    dataId: DataId,
    values: BackendValues,
    shape: number[],
    dtype: DataType,
    refCount: number,
  ): void {
    const type = deviceType(dtype);
    const size = sizeOf(shape);
    const typed = hostValues(values, type);
    const stored: Stored = {
      dtype: type, size, refCount, narrow: null, wide: null, host: typed, uploaded: true,
    }; // prettier-ignore
    this.data.set(dataId, stored);
    // The caller may change its array later: small ones are copied, large ones uploaded at once, in the form kernels use.
    if (size <= KEEP_ON_HOST) stored.host = typed.slice();
    else if (isZero(typed)) this.clear(stored);
    else if (type === 'float32' && this.storage !== 'float32') this.narrow(stored);
    else this.wide(stored);
  }

  override readSync(dataId: DataId): BackendValues {
    const stored = this.data.get(dataId);
    if (stored.host !== null) return stored.host.slice();
    const { dtype, size } = stored;
    const values = hostArray(dtype, size);
    if (size === 0) return values;
    const temporary = stored.wide === null;
    const wide = this.wide(stored);
    this.device.driver.download(values, wide.pointer);
    if (temporary) {
      this.device.allocator.release(wide);
      stored.wide = null;
    }
    return values;
  }

  override read(dataId: DataId): Promise<BackendValues> {
    return Promise.resolve(this.readSync(dataId));
  }

  override disposeData(dataId: DataId, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const stored = this.data.get(dataId);
    stored.refCount--;
    if (!force && stored.refCount > 0) return false;
    for (const block of [stored.narrow, stored.wide]) {
      if (block !== null) this.device.allocator.release(block);
    }
    this.data.delete(dataId);
    return true;
  }

  override incRef(dataId: DataId): void {
    this.data.get(dataId).refCount++;
  }

  decRef(dataId: DataId): void {
    if (this.data.has(dataId)) this.data.get(dataId).refCount--;
  }

  override refCount(dataId: DataId): number {
    return this.data.has(dataId) ? this.data.get(dataId).refCount : 0;
  }

  override numDataIds(): number {
    return this.data.numDataIds();
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: false };
  }

  override timerAvailable(): boolean {
    return true;
  }

  override time(query: () => void): Promise<BackendTimingInfo> {
    return Promise.resolve({ kernelMs: this.device.time(query) });
  }

  /** Logical precision: what tfjs derives tolerances from. */
  override floatPrecision(): 16 | 32 {
    return 32;
  }

  override epsilon(): number {
    return 1e-7;
  }

  override dispose(): void {
    this.device.driver.synchronize();
  }
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
