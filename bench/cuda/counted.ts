/** What a rank sends to others. */
import type { Communicator } from '../../src/distributed/communicator.js';
import type * as tf from '../../src/tf.js';
import { cudaBackend } from './kernel-times.js';

/** Bytes that one rank sends, where each collective goes around a ring. */
export interface Sent {
  /** By all-gather and reduce-scatter. */
  collected: number;
  /** From one rank to another. */
  handed: number;
  /** By all-reduce and broadcast. */
  other: number;
}

/** The communicator, and a count of what goes through it. */
export function counted(of: Communicator): { communicator: Communicator; sent: Sent } {
  const sent: Sent = { collected: 0, handed: 0, other: 0 };
  const others = of.size - 1;
  const bytes = (x: tf.Tensor): number => cudaBackend().bytesOf(x);
  const communicator: Communicator = {
    rank: of.rank,
    size: of.size,
    description: of.description,
    allReduce(x, reduction) {
      sent.other += (2 * others * bytes(x)) / of.size;
      return of.allReduce(x, reduction);
    },
    reduceScatter(x) {
      sent.collected += (others * bytes(x)) / of.size;
      return of.reduceScatter(x);
    },
    startReduceScatter(x) {
      sent.collected += (others * bytes(x)) / of.size;
      return of.startReduceScatter(x);
    },
    allGather(x, precision) {
      sent.collected +=
        others * (precision === 'float32' ? 4 * x.size : precision === 'stored' ? 2 * x.size : bytes(x));
      return of.allGather(x, precision);
    },
    broadcast(x, root) {
      sent.other += (others * 4 * x.size) / of.size;
      return of.broadcast(x, root);
    },
    exchange(send, receive) {
      if (send !== null) sent.handed += 4 * send.x.size;
      return of.exchange(send, receive);
    },
    barrier: () => {
      of.barrier();
    },
    gather: (value) => of.gather(value),
    split: (color) => of.split(color),
    abort: (exitCode) => of.abort(exitCode),
    close: () => {
      of.close();
    },
  };
  return { communicator, sent };
}
