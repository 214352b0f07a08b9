/** Ranks on CPUs, which talk by MPI. Tensors live in the host's memory; every call returns when its data has arrived. */
import { RunError } from '../errors.js';
import * as tf from '../tf.js';
import {
  at,
  type Communicator,
  type Incoming,
  type Outgoing,
  type Pending,
  placeIn,
} from './communicator.js';
import { loadMpi, type Mpi, versionOf } from './mpi-library.js';
import type { Ranks } from './ranks.js';

type Values = Float32Array | Int32Array | Uint8Array;

/** MPI counts elements in 32 bits; pieces are smaller, which also bounds its buffers. */
const PIECE = 2 ** 24;

/**
 * Joins the other ranks.
 * @throws RunError where MPI is not installed, or does not know the ranks that the environment names
 */
export function joinByMpi(ranks: Ranks): Communicator {
  const mpi = loadMpi(ranks.launcher);
  const { call, world } = mpi;
  call.MPI_Init_thread(null, null, 0, new Int32Array(1));
  const [rank, size] = [new Int32Array(1), new Int32Array(1)];
  call.MPI_Comm_rank(world, rank);
  call.MPI_Comm_size(world, size);
  if (rank[0] !== ranks.rank || size[0] !== ranks.size) {
    throw new RunError(
      `${ranks.launcher} says rank ${ranks.rank} of ${ranks.size}, but MPI says rank ${rank[0] ?? 0} of ${size[0] ?? 0}: each process would believe to be alone; start them by the mpirun of the MPI library that is on the library path`,
    );
  }
  return new MpiCommunicator(mpi, world, ranks);
}

class MpiCommunicator implements Communicator {
  readonly rank: number;
  readonly size: number;
  readonly description: string;

  constructor(
    private readonly mpi: Mpi,
    /** Of MPI's communicator. */
    private readonly handle: Mpi['world'],
    { rank, size }: Pick<Ranks, 'rank' | 'size'>,
  ) {
    this.rank = rank;
    this.size = size;
    this.description = versionOf(mpi);
  }

  allReduce<T extends tf.Tensor>(x: T, reduction: 'sum' | 'max' = 'sum'): T {
    const { call, types, reductions } = this.mpi;
    const values = valuesOf(x);
    const found = emptyLike(values);
    for (const [from, to] of pieces(values.length)) {
      const type = types[typeOf(x)];
      const parts = [values.subarray(from, to), found.subarray(from, to)] as const;
      call.MPI_Allreduce(...parts, to - from, type, reductions[reduction], this.handle);
    }
    return tf.tensor(found, x.shape, x.dtype) as T;
  }

  reduceScatter(x: tf.Tensor1D): tf.Tensor1D {
    const { call, types, reductions } = this.mpi;
    const count = this.share(x.size);
    const found = new Float32Array(count);
    const values = valuesOf(x);
    for (const [from, to] of pieces(count)) {
      const length = to - from;
      // The pieces of all ranks, side by side.
      const packed = new Float32Array(this.size * length);
      for (let rank = 0; rank < this.size; rank++) {
        packed.set(values.subarray(rank * count + from, rank * count + to), rank * length);
      }
      const target = found.subarray(from, to);
      call.MPI_Reduce_scatter_block(packed, target, length, types.float32, reductions.sum, this.handle);
    }
    return tf.tensor1d(found);
  }

  startReduceScatter(x: tf.Tensor1D): Pending<tf.Tensor1D> {
    return at(tf.keep(this.reduceScatter(x)));
  }

  allGather(x: tf.Tensor1D): tf.Tensor1D {
    const values = valuesOf(x);
    return tf.tensor1d(this.gathered(values) as Float32Array | Int32Array, x.dtype);
  }

  broadcast<T extends tf.Tensor>(x: T, root: number): T {
    const { call, types } = this.mpi;
    const values = valuesOf(x).slice();
    for (const [from, to] of pieces(values.length)) {
      call.MPI_Bcast(values.subarray(from, to), to - from, types[typeOf(x)], root, this.handle);
    }
    return tf.tensor(values, x.shape, x.dtype) as T;
  }

  exchange(send: Outgoing | null, receive: Incoming | null): tf.Tensor | null {
    const { call, types, nobody } = this.mpi;
    const sent = send === null ? new Float32Array(0) : valuesOf(send.x);
    const size = receive === null ? 0 : tf.util.sizeFromShape([...receive.shape]);
    const found = receive?.dtype === 'int32' ? new Int32Array(size) : new Float32Array(size);
    const tag = 0;
    // Messages between two ranks arrive in the order in which they were sent.
    for (const [from, to] of pieces(Math.max(sent.length, size))) {
      const out = sent.subarray(from, to);
      const into = found.subarray(from, to);
      call.MPI_Sendrecv(
        ...[out, out.length, send === null ? types.float32 : types[typeOf(send.x)]],
        ...[out.length === 0 ? nobody : (send?.to ?? nobody), tag],
        ...[into, into.length, types[receive?.dtype ?? 'float32']],
        ...[into.length === 0 ? nobody : (receive?.from ?? nobody), tag],
        ...[this.handle, new Uint8Array(STATUS_BYTES)],
      );
    }
    return receive === null ? null : tf.tensor(found, [...receive.shape], receive.dtype);
  }

  barrier(): void {
    this.mpi.call.MPI_Barrier(this.handle);
  }

  gather(value: unknown): unknown[] {
    const text = new TextEncoder().encode(JSON.stringify(value));
    const lengths = this.gathered(Int32Array.of(text.length));
    const longest = Math.max(...lengths);
    const padded = new Uint8Array(longest);
    padded.set(text);
    const all = this.gathered(padded) as Uint8Array;
    return Array.from({ length: this.size }, (_, rank): unknown =>
      JSON.parse(
        new TextDecoder().decode(all.subarray(rank * longest, rank * longest + (lengths[rank] ?? 0))),
      ),
    );
  }

  split(color: number): Communicator {
    const made = this.mpi.newHandle();
    this.mpi.call.MPI_Comm_split(this.handle, color, this.rank, made.room);
    return new MpiCommunicator(this.mpi, made.value(), placeIn(this.gather(color), this.rank));
  }

  abort(exitCode: number): never {
    this.mpi.call.MPI_Abort(this.mpi.world, exitCode);
    process.exit(exitCode);
  }

  close(): void {
    // What was split off ends with the whole.
    if (this.handle === this.mpi.world) this.mpi.call.MPI_Finalize();
  }

  /** Elements of each rank. */
  private share(size: number): number {
    if (size % this.size === 0) return size / this.size;
    throw new RangeError(`${size} elements cannot be dealt out to ${this.size} ranks evenly`);
  }

  private gathered(values: Values): Values {
    const { call, types } = this.mpi;
    const type =
      values instanceof Float32Array
        ? types.float32
        : values instanceof Int32Array
          ? types.int32
          : types.byte;
    const all = emptyLike(values, values.length * this.size);
    for (const [from, to] of pieces(values.length)) {
      const length = to - from;
      const packed = emptyLike(values, length * this.size);
      call.MPI_Allgather(values.subarray(from, to), length, type, packed, length, type, this.handle);
      for (let rank = 0; rank < this.size; rank++) {
        all.set(packed.subarray(rank * length, (rank + 1) * length), rank * values.length + from);
      }
    }
    return all;
  }
}

/** Room for an MPI_Status of any implementation. */
const STATUS_BYTES = 64;

function typeOf({ dtype }: tf.Tensor): 'float32' | 'int32' {
  if (dtype === 'float32' || dtype === 'int32') return dtype;
  throw new TypeError(`tensors of type ${dtype} are not sent between ranks`);
}

function valuesOf(x: tf.Tensor): Float32Array | Int32Array {
  typeOf(x);
  return x.dataSync() as Float32Array | Int32Array;
}

function emptyLike(values: Values, length = values.length): Values {
  if (values instanceof Float32Array) return new Float32Array(length);
  return values instanceof Int32Array ? new Int32Array(length) : new Uint8Array(length);
}

function* pieces(length: number): Generator<readonly [from: number, to: number]> {
  for (let from = 0; from < length; from += PIECE) yield [from, Math.min(from + PIECE, length)];
}
