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
import type { Counter } from '../../ops/kernels.js';
import type { StorageType } from '../engine.js';
import type { Block } from './allocator.js';
import type { CublasMatmul } from './cublas.js';
import type { Device, Grid, KernelSpec } from './device.js';
import { type KernelArgument, int32, int64, pointer } from './launch.js';
import { STORAGE_BYTES } from './sources.js';
import type { Float8Addresses, Float8Rows } from './float8-rows.js';
import { laySideBySide } from './side-by-side.js';
import { StoredTensor, deviceType } from './stored-tensor.js';
import { sizeOf } from './walk.js';

/** The name under which the backend is registered with tfjs. */
export const CUDA_BACKEND = 'yoco-cuda';

export const THREADS = 256;

const widthOf = ({ shape }: TensorInfo): number => shape.at(-1) ?? 1;

/** A tfjs backend on one GPU. Kernels are queued on one stream; only reading waits. */
export class CudaBackend extends KernelBackend {
  private readonly data: DataStorage<StoredTensor>;
  readonly storage: StorageType;
  /** Of data that the kernel at work has made or taken references to: how many references. */
  private taken: Map<object, number> | null = null;
  /** Whether weights have been kept in float8: then products take float8 of most that norms give. */
  private float8InUse = false;

  constructor(readonly device: Device) {
    super();
    this.storage = device.storage;
    this.data = new DataStorage(this, tfEngine());
  }

  // --- tensors -------------------------------------------------------------------------------------------------

  /** An unwritten tensor; `storage` float32 keeps a logical float32 tensor at full precision. @param block where it is to lie */
  output(
    shape: readonly number[],
    dtype: DataType = 'float32',
    storage: StorageType = this.storage,
    block?: Block,
  ): TensorInfo {
    const info = { dataId: {}, shape: [...shape], dtype };
    const stored = new StoredTensor(this, deviceType(dtype), sizeOf(shape));
    stored.allocate(storage, block);
    this.data.set(info.dataId, stored);
    this.count(info.dataId, 1);
    return info;
  }

  /** A tensor in float8 alone, row by row of the last dimension. @param write fills the rows */
  outputFloat8(shape: readonly number[], write: (rows: Float8Rows) => void): TensorInfo {
    const info = { dataId: {}, shape: [...shape], dtype: 'float32' as const };
    const stored = new StoredTensor(this, 'float32', sizeOf(shape));
    const rows = stored.allocateFloat8(widthOf(info));
    this.data.set(info.dataId, stored);
    this.count(info.dataId, 1);
    write(rows);
    return info;
  }

  /** The rows of a tensor in float8; rounded once for all that ask. */
  inFloat8(info: TensorInfo): Float8Addresses {
    return this.data.get(info.dataId).inFloat8(widthOf(info));
  }

  /** Room for the rows of a new tensor in float8, to be written with it, if products are likely to ask for them. */
  roomForFloat8(info: TensorInfo): Float8Addresses | null {
    return this.float8InUse ? this.data.get(info.dataId).allocateFloat8(widthOf(info)) : null;
  }

  /** Leaves a tensor in float8 alone, whose values are from then on the rounded ones. */
  keepFloat8(info: TensorInfo): void {
    this.float8InUse = true;
    this.data.get(info.dataId).keepFloat8(widthOf(info));
  }

  /** Unwritten tensors of one shape in the backend's storage, side by side. */
  outputs(shape: readonly number[], count: number): TensorInfo[] {
    const bytes = sizeOf(shape) * this.elementBytes('float32');
    const blocks = this.device.allocator.allocateRow(bytes, count);
    return blocks.map((block) => this.output(shape, 'float32', this.storage, block));
  }

  /**
   * Has tensors of one shape lie side by side in the backend's storage, in their order: moves them where they do not, once.
   * @returns whether they do
   */
  sideBySide(infos: readonly TensorInfo[]): boolean {
    return laySideBySide(
      infos.map(({ dataId }) => this.data.get(dataId)),
      this,
    );
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
    return this.data.get(info.dataId).pointer(storage);
  }

  /**
   * Address for changing a tensor in place; the other representation, if any, is dropped. `keep` leaves it, for a
   * kernel that writes both.
   */
  writable(info: TensorInfo, storage: StorageType = this.storage, keep = false): number {
    return this.data.get(info.dataId).writable(storage, keep);
  }

  /**
   * Float32 when every operand is kept (or only known) in float32: then so is the result of a generic kernel. Zeros go with
   * the others, and alone are narrow.
   */
  storageFor(...operands: readonly TensorInfo[]): StorageType {
    const stored = operands.map((info) => this.data.get(info.dataId));
    const narrow = stored.some(({ isNarrow }) => isNarrow) || stored.every(({ isZeros }) => isZeros);
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

  /**
   * Runs a kernel, which need not release what it has made when it fails: tfjs knows nothing of that yet.
   * @param kernel may call others
   */
  undoneOnFailure<T>(kernel: () => T): T {
    const outer = this.taken;
    const own = (this.taken = new Map<object, number>());
    try {
      const result = kernel();
      this.taken = outer;
      for (const [dataId, references] of own) this.count(dataId, references);
      return result;
    } catch (error) {
      this.taken = outer;
      for (const [dataId, references] of own) for (let i = 0; i < references; i++) this.disposeData(dataId);
      throw error;
    }
  }

  private count(dataId: DataId, references: number): void {
    this.taken?.set(dataId, (this.taken.get(dataId) ?? 0) + references);
  }

  // --- work ----------------------------------------------------------------------------------------------------

  /** Queues a kernel; without work (an empty grid) nothing happens. */
  launch(kernel: KernelSpec, grid: Grid, threads: number, args: readonly KernelArgument[], shared = 0): void {
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

  /** Queues a matmul of cuBLASLt. */
  matmul(...problem: Parameters<CublasMatmul['run']>): void {
    this.settle();
    this.device.matmuls.run(...problem);
  }

  /** Queues work of another library on the main stream. */
  queue(work: (stream: number) => void): void {
    this.settle();
    this.device.driver.queue(work);
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
   * A number that grows with the position of a step, or with the keys before it, as two arguments: where that is read from (0:
   * nowhere), and what is added to it.
   */
  moving(value: number, counter: Counter = 'position'): [KernelArgument, KernelArgument] {
    const { recording } = this.device;
    if (recording === null || recording.place === null) return [pointer(0), int32(value)];
    const place = recording.place + (counter === 'keys' ? 4 : 0);
    return [pointer(place), int32(value - recording[counter])];
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
    const stored = new StoredTensor(this, deviceType(dtype), sizeOf(shape), refCount);
    this.data.set(dataId, stored);
    this.count(dataId, refCount);
    try {
      stored.write(values);
    } catch (error) {
      this.disposeData(dataId, true);
      throw error;
    }
  }

  override readSync(dataId: DataId): BackendValues {
    return this.data.get(dataId).read();
  }

  override read(dataId: DataId): Promise<BackendValues> {
    return this.data.get(dataId).readLater();
  }

  override disposeData(dataId: DataId, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const stored = this.data.get(dataId);
    stored.refCount--;
    this.count(dataId, -1);
    if (!force && stored.refCount > 0) return false;
    stored.release();
    this.data.delete(dataId);
    return true;
  }

  override incRef(dataId: DataId): void {
    this.data.get(dataId).refCount++;
    this.count(dataId, 1);
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
