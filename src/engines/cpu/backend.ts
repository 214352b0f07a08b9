/**
 * The tfjs backend of the CPU engine: tfjs' own CPU backend with its memory in a pool, so that every kernel
 * tfjs has works here, and with access to ONNX Runtime for the kernels that are worth it.
 */
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import type { backend_util, DataType, TensorInfo } from '@tensorflow/tfjs-core';
import type { Native } from './native/library.js';
import { NotRecordable } from '../../ops/recording.js';
import type { Graph } from './onnx.js';
import type { BufferPool } from './pool.js';
import type { OnnxRuntime, OnnxTensor } from './runtime.js';
import { SharedArena } from './wasm/arena.js';
import { Team } from './wasm/team.js';

type Values = backend_util.BackendValues;
export type Floats = Float32Array<ArrayBuffer>;

/** Bytes of a tensor's values; strings are arrays of encoded strings. */
function byteLength(values: Values): number {
  if (ArrayBuffer.isView(values)) return values.byteLength;
  return values.reduce((sum, text) => sum + text.byteLength, 0);
}

/** A recorded step: its calls, and the memory that its kernels write to, which no other tensor gets meanwhile. */
export interface StepProgram {
  /** @param moved positions since the step was recorded */
  readonly calls: ((moved: number) => void)[];
  readonly memory: Set<ArrayBuffer>;
}

export class CpuBackend extends MathBackendCPU {
  private readonly vectorsOfOnes = new Map<number, Float32Array>();
  private recording: StepProgram | null = null;
  /** Memory of recorded steps, with the arrays whose tensors are gone. */
  private readonly reserved = new Map<ArrayBuffer, Floats | null>();
  /** Reserved when it is first used; null where the system refuses it. */
  private shared: { readonly arena: SharedArena; readonly team: Team } | null | undefined;

  constructor(
    readonly pool: BufferPool,
    private readonly onnxRuntime: OnnxRuntime | undefined,
    private readonly threads = 1,
    /** The engine's own kernels, where there are any. */
    readonly native: Native | null = null,
  ) {
    super();
  }

  /** Memory and threads of the attention kernels; null where the system refuses the memory. */
  get attentionThreads(): { readonly arena: SharedArena; readonly team: Team } | null {
    if (this.shared === undefined) {
      const arena = SharedArena.create();
      this.shared = arena ? { arena, team: new Team(arena, this.threads) } : null;
    }
    return this.shared;
  }

  /** Bytes of shared memory that no tensor uses. */
  get sharedFreeBytes(): number {
    return this.shared?.arena.freeBytes ?? 0;
  }

  /** For the native kernels, which are registered only where ONNX Runtime loads. */
  get runtime(): OnnxRuntime {
    if (!this.onnxRuntime) throw new Error('ONNX Runtime is not loaded');
    return this.onnxRuntime;
  }

  /**
   * Plain kernels may return a view of their input's memory (a contiguous slice does). Memory of the pool is
   * reused when its tensor goes, so such a view becomes a copy.
   */
  override write(values: Values, _shape: number[], dtype: DataType): object {
    this.refuseRecording('a kernel of TensorFlow.js');
    const dataId = {};
    this.hold(
      dataId,
      ArrayBuffer.isView(values) && this.isReused(values) ? values.slice() : values,
      dtype,
      1,
    );
    return dataId;
  }

  override move(dataId: object, values: Values, _shape: number[], dtype: DataType, refCount: number): void {
    this.hold(dataId, values, dtype, refCount);
  }

  override disposeData(dataId: object, force = false): boolean {
    const values = this.data.has(dataId) ? this.data.get(dataId).values : undefined;
    const gone = super.disposeData(dataId, force);
    if (gone && values) this.release(values);
    return gone;
  }

  /** A copy: the tensor's own memory will be reused when the tensor is disposed of. */
  override readSync(dataId: object): Values {
    this.refuseRecording('reading a tensor');
    const values = super.readSync(dataId);
    return ArrayBuffer.isView(values) && this.isReused(values) ? values.slice() : values;
  }

  override memory(): { unreliable: boolean; reasons: string[] } {
    return { unreliable: false, reasons: [] };
  }

  /** A new tensor whose values the caller is about to write. */
  output(shape: readonly number[], dtype: 'float32' | 'int32' = 'float32'): TensorInfo {
    const dataId = {};
    const floats = this.pool.take(shape.reduce((product, size) => product * size, 1));
    if (this.recording) {
      this.recording.memory.add(floats.buffer);
      this.reserved.set(floats.buffer, null);
    }
    const values =
      dtype === 'float32' ? floats : new Int32Array(floats.buffer, floats.byteOffset, floats.length);
    this.data.set(dataId, { values, dtype, refCount: 1 });
    return { dataId, shape: [...shape], dtype };
  }

  /** The memory of a float32 tensor, not a copy. */
  floats(tensor: TensorInfo): Floats {
    return this.data.get(tensor.dataId).values as Floats;
  }

  /** The memory of a float32 tensor that is to be changed in place: never an array that the user handed in. */
  mutableFloats(tensor: TensorInfo): Floats {
    const data = this.data.get(tensor.dataId);
    const values = data.values as Floats;
    if (this.pool.owns(values)) return values;
    const own = this.pool.take(values.length);
    own.set(values);
    this.release(values);
    data.values = own;
    return own;
  }

  /** The memory of an int32 tensor. */
  integers(tensor: TensorInfo): Int32Array {
    return this.data.get(tensor.dataId).values as Int32Array;
  }

  /**
   * Moves the memory of a tensor to where WebAssembly reads it, if there is room.
   * @returns whether it moved
   */
  share(tensor: TensorInfo): boolean {
    const data = this.data.get(tensor.dataId);
    const values = data.values as Float32Array | Int32Array;
    const arena = this.shared?.arena ?? this.attentionThreads?.arena;
    if (!arena || arena.owns(values)) return false;
    const at = arena.take(values.byteLength);
    if (at === undefined) return false;
    const { buffer } = arena.memory;
    const own = values instanceof Float32Array ? new Float32Array(buffer, at, values.length) : new Int32Array(buffer, at, values.length); // prettier-ignore
    own.set(values);
    this.release(values);
    this.pool.countForeign(own.byteLength);
    data.values = own;
    return true;
  }

  /** A vector of ones, kept for the next time. */
  ones(length: number): OnnxTensor {
    const known = this.vectorsOfOnes.get(length) ?? new Float32Array(length).fill(1);
    this.vectorsOfOnes.set(length, known);
    return this.runtime.wrap(known, [length]);
  }

  /** Lends arrays of the given lengths, with undefined contents, while `body` runs. */
  withScratch<const Lengths extends readonly number[]>(
    lengths: Lengths,
    body: (arrays: { [Index in keyof Lengths]: Floats }) => void,
  ): void {
    const arrays = lengths.map((length) => this.pool.take(length));
    try {
      body(arrays as { [Index in keyof Lengths]: Floats });
    } finally {
      for (const array of arrays) this.pool.give(array);
    }
  }

  /** The memory of a tensor as ONNX Runtime sees it, under another shape of the same size if one is given. */
  onnx(tensor: TensorInfo, dims: readonly number[] = tensor.shape): OnnxTensor {
    const values = this.data.get(tensor.dataId).values as Float32Array | Int32Array | Uint8Array;
    return this.runtime.wrap(values, dims);
  }

  /** Part of a float32 tensor, as ONNX Runtime sees it: the elements of `dims` from element `from` on. */
  part(tensor: TensorInfo, dims: readonly number[], from: number): OnnxTensor {
    const size = dims.reduce((product, length) => product * length, 1);
    return this.runtime.wrap(this.floats(tensor).subarray(from, from + size), dims);
  }

  /**
   * Does the work of a kernel on memory that it has looked up, or notes it where a step is recorded.
   * @param work gets by how many positions a recorded step has moved; 0 outside of one
   */
  launch(work: (moved: number) => void): void {
    if (this.recording) this.recording.calls.push(work);
    else work(0);
  }

  /**
   * What `compute` launches. Nothing is executed.
   * @throws NotRecordable where a kernel does not launch its work
   */
  recordProgram(compute: () => void): StepProgram {
    const program: StepProgram = { calls: [], memory: new Set() };
    this.recording = program;
    try {
      compute();
      return program;
    } catch (error) {
      this.releaseProgram(program);
      throw error;
    } finally {
      this.recording = null;
    }
  }

  /** @throws NotRecordable where a step is recorded: `what` would not be part of it */
  refuseRecording(what: string): void {
    if (this.recording) throw new NotRecordable(what);
  }

  releaseProgram(program: StepProgram): void {
    for (const buffer of program.memory) {
      const array = this.reserved.get(buffer);
      this.reserved.delete(buffer);
      if (array) this.pool.give(array);
    }
    program.memory.clear();
  }

  /** Runs a graph (see `OnnxRuntime.run`). */
  run(
    key: string,
    define: () => Graph,
    feeds: Readonly<Record<string, OnnxTensor>>,
    fetches: Readonly<Record<string, OnnxTensor>>,
  ): void {
    this.refuseRecording(key);
    this.runtime.run(key, define, feeds, fetches);
  }

  private hold(dataId: object, values: Values, dtype: DataType, refCount: number): void {
    // A complex tensor has no values of its own, and a few plain kernels hand over ordinary arrays.
    const held: Values =
      dtype === 'float32' && (values as Values | undefined) && !(values instanceof Float32Array)
        ? Float32Array.from(values as ArrayLike<number>)
        : values;
    this.data.set(dataId, { values: held, dtype, refCount });
    if (held as Values | undefined) this.pool.countForeign(byteLength(held));
  }

  /** Whether the memory of an array is given to other tensors when its own goes. */
  private isReused(values: ArrayBufferView): boolean {
    return this.pool.owns(values) || this.shared?.arena.owns(values) === true;
  }

  private release(values: Values): void {
    if (ArrayBuffer.isView(values) && this.pool.owns(values)) {
      if (this.reserved.has(values.buffer as ArrayBuffer))
        this.reserved.set(values.buffer as ArrayBuffer, values as Floats); // prettier-ignore
      else this.pool.give(values as Floats);
      return;
    }
    // Tensors in shared memory are counted as foreign, as they were before they moved there.
    if (ArrayBuffer.isView(values) && this.shared?.arena.owns(values))
      this.shared.arena.give(values.byteOffset, values.byteLength);
    this.pool.countForeign(-byteLength(values));
  }
}
