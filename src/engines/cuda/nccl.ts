/**
 * Ranks on GPUs, which talk by NCCL. Collectives run on a stream of their own: they wait for what has been queued when they are
 * called, and what is queued afterwards waits for them, but for those that are started to run beside it. The host never waits. In a
 * recorded step they are part of it, which all ranks must then record.
 */
import {
  type Communicator,
  type Incoming,
  type Outgoing,
  type Pending,
  placeIn,
  type Precision,
  type Reduction,
} from '../../distributed/communicator.js';
import { shareFromRank0 } from '../../distributed/rendezvous.js';
import type { Ranks } from '../../distributed/ranks.js';
import * as tf from '../../tf.js';
import type { StorageType } from '../engine.js';
import type { CudaBackend } from './backend.js';
import { ID_BYTES, loadNccl, type Nccl, REDUCTIONS, TYPES } from './nccl-library.js';

/**
 * Joins the other ranks, one GPU each. The identifier goes from rank 0 to the others over TCP, or NCCL itself finds rank 0 where
 * NCCL_COMM_ID says.
 * @throws RunError where NCCL is missing, or the ranks do not meet
 */
export async function joinByNccl(ranks: Ranks, backend: CudaBackend): Promise<Communicator> {
  const nccl = loadNccl();
  const makeId = (): Uint8Array => {
    const id = new Uint8Array(ID_BYTES);
    nccl.call.ncclGetUniqueId(id);
    return id;
  };
  const found = process.env.NCCL_COMM_ID ?? '';
  const id = found === '' && ranks.size > 1 ? await shareFromRank0(ranks, makeId) : makeId();
  return new NcclCommunicator(nccl, nccl.join(id, ranks), ranks, backend);
}

/** @param handle of NCCL's communicator */
export class NcclCommunicator implements Communicator {
  readonly rank: number;
  readonly size: number;
  readonly description: string;
  private readonly stream: number;
  private readonly ready: number;
  private readonly done: number;

  constructor(
    private readonly nccl: Nccl,
    private readonly handle: number,
    { rank, size }: Pick<Ranks, 'rank' | 'size'>,
    private readonly backend: CudaBackend,
  ) {
    const { driver } = backend.device;
    this.rank = rank;
    this.size = size;
    this.description = `NCCL ${nccl.version}`;
    this.stream = driver.createStream();
    this.ready = driver.createEvent();
    this.done = driver.createEvent();
  }

  allReduce<T extends tf.Tensor>(x: T, reduction: Reduction = 'sum'): T {
    const [storage, type] = this.typeOf(x);
    const found = this.output(x.shape, x.dtype, storage);
    const [from, to] = [this.address(x, storage), this.address(found, storage)];
    this.run('ncclAllReduce', from, to, x.size, type, REDUCTIONS[reduction]);
    return found as T;
  }

  reduceScatter(x: tf.Tensor1D): tf.Tensor1D {
    const found = this.startReduceScatter(x).result();
    const result = tf.clone(found);
    found.dispose();
    return result;
  }

  startReduceScatter(x: tf.Tensor1D): Pending<tf.Tensor1D> {
    if (x.size % this.size !== 0) {
      throw new RangeError(`${x.size} elements cannot be dealt out to ${this.size} ranks evenly`);
    }
    const [storage, type] = this.typeOf(x);
    const count = x.size / this.size;
    // It must not be written over while it is read beside other work.
    const read = tf.keep(tf.clone(x));
    const found = tf.keep(this.output([count], x.dtype, storage)) as tf.Tensor1D;
    const [from, to] = [this.address(x, storage), this.address(found, storage)];
    const { driver } = this.backend.device;
    this.beside((stream) => {
      this.nccl.call.ncclReduceScatter(from, to, count, type, REDUCTIONS.sum, this.handle, stream);
    });
    return {
      result: () => {
        // Recorded after all collectives so far, of which this is one.
        driver.streamWaits(driver.stream, this.done);
        read.dispose();
        return found;
      },
    };
  }

  allGather(x: tf.Tensor1D, precision: Precision = 'kept'): tf.Tensor1D {
    const [storage, type] = this.typeOf(x, precision);
    const found = this.output([x.size * this.size], x.dtype, storage);
    this.run('ncclAllGather', this.address(x, storage), this.address(found, storage), x.size, type);
    // What is queued from here on waits: the rounded form may be written over.
    if (precision === 'stored' && x.dtype === 'float32') this.backend.writable(x, 'float32');
    return found as tf.Tensor1D;
  }

  broadcast<T extends tf.Tensor>(x: T, root: number): T {
    // What the root holds in 32 bits, others may hold in 16.
    const [storage, type] = this.typeOf(x, 'float32');
    const found = this.output(x.shape, x.dtype, storage);
    this.run('ncclBroadcast', this.address(x, storage), this.address(found, storage), x.size, type, root);
    return found as T;
  }

  exchange(send: Outgoing | null, receive: Incoming | null): tf.Tensor | null {
    // Both ends must agree on the bytes: always 32 bits, whatever the sender holds.
    const found = receive && this.output(receive.shape, receive.dtype, 'float32');
    const source = send && this.address(send.x, 'float32');
    this.ordered((stream) => {
      const { call } = this.nccl;
      call.ncclGroupStart();
      if (send !== null && source !== null) {
        call.ncclSend(source, send.x.size, wide(send.x.dtype), send.to, this.handle, stream);
      }
      if (receive !== null && found !== null) {
        const target = this.address(found, 'float32');
        call.ncclRecv(target, found.size, wide(receive.dtype), receive.from, this.handle, stream);
      }
      call.ncclGroupEnd();
    });
    return found;
  }

  barrier(): void {
    tf.tidy(() => this.allReduce(tf.scalar(1)).dataSync());
  }

  gather(value: unknown): unknown[] {
    const text = new TextEncoder().encode(JSON.stringify(value));
    const lengths = this.gathered(Int32Array.of(text.length));
    const longest = Math.max(...lengths);
    const padded = new Int32Array(longest);
    padded.set(text);
    const all = Uint8Array.from(this.gathered(padded));
    return Array.from({ length: this.size }, (_, rank): unknown => {
      const start = rank * longest;
      return JSON.parse(new TextDecoder().decode(all.subarray(start, start + (lengths[rank] ?? 0))));
    });
  }

  split(color: number): Communicator {
    const made = new BigUint64Array(1);
    this.nccl.call.ncclCommSplit(this.handle, color, this.rank, made, null);
    const place = placeIn(this.gather(color), this.rank);
    return new NcclCommunicator(this.nccl, Number(made[0]), place, this.backend);
  }

  abort(exitCode: number): never {
    this.endRecordings();
    this.nccl.call.ncclCommAbort(this.handle);
    process.exit(exitCode);
  }

  close(): void {
    this.backend.device.driver.synchronize();
    this.endRecordings();
    this.nccl.call.ncclCommDestroy(this.handle);
  }

  /** NCCL waits for the end of every graph that has its collectives, even to abort. */
  private endRecordings(): void {
    this.backend.device.driver.destroyGraphs();
  }

  private run(name: 'ncclAllReduce' | 'ncclAllGather' | 'ncclBroadcast', ...args: number[]): void {
    this.ordered((stream) => {
      this.nccl.call[name](...args, this.handle, stream);
    });
  }

  private gathered(values: Int32Array): Int32Array {
    const all = tf.tidy(() => this.allGather(tf.tensor1d(values, 'int32')));
    const found = all.dataSync<'int32'>();
    all.dispose();
    return found;
  }

  /** Queues work of NCCL after all that is queued now, and before all that is queued later. */
  private ordered(queue: Queue): void {
    const { driver, recording } = this.backend.device;
    if (recording !== null) {
      this.backend.queue(queue);
      return;
    }
    this.beside(queue);
    driver.streamWaits(driver.stream, this.done);
  }

  /** Queues work of NCCL after all that is queued now; what is queued later does not wait for it. */
  private beside(queue: Queue): void {
    const { driver, recording } = this.backend.device;
    if (recording !== null) throw new Error('a recorded step has one stream only');
    driver.recordEvent(this.ready);
    driver.streamWaits(this.stream, this.ready);
    queue(this.stream);
    driver.recordEvent(this.done, this.stream);
  }

  /** As kept: 16 bits where the tensor has them, and what was computed in float32 stays float32. */
  private typeOf(x: tf.Tensor, precision: Precision = 'kept'): [storage: StorageType, type: number] {
    if (x.dtype === 'int32') return ['float32', TYPES.int32];
    if (x.dtype !== 'float32') throw new TypeError(`tensors of type ${x.dtype} are not sent between ranks`);
    const { backend } = this;
    const storage =
      precision === 'kept' ? backend.storageFor(x) : precision === 'stored' ? backend.storage : 'float32';
    return [storage, TYPES[storage]];
  }

  private address(x: tf.Tensor, storage: StorageType): number {
    return this.backend.pointer(x, storage);
  }

  private output(shape: readonly number[], dtype: tf.DataType, storage: StorageType): tf.Tensor {
    const info = this.backend.output(shape, dtype, storage);
    return tf.engine().makeTensorFromTensorInfo(info);
  }
}

/** Calls NCCL for work on a stream. */
type Queue = (stream: number) => void;

function wide(dtype: tf.DataType): number {
  return dtype === 'int32' ? TYPES.int32 : TYPES.float32;
}
