/** What every communicator must do, whatever carries it; called on every rank. */
import * as assert from 'uvu/assert';
import type { Communicator } from '../../src/distributed/communicator.js';
import { float32Tensor } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';

/** What rank r holds at index i. */
const value = (r: number, i: number): number => (r + 1) * 10 + i;
const numbers = (x: tf.Tensor): number[] => Array.from(x.dataSync());

export function checkCollectives(communicator: Communicator): void {
  const { rank, size } = communicator;
  const own = (length: number): tf.Tensor1D => tf.tensor1d(Array.from({ length }, (_, i) => value(rank, i)));
  const sums = (length: number): number[] =>
    Array.from({ length }, (_, i) =>
      Array.from({ length: size }, (_, r) => value(r, i)).reduce((a, b) => a + b),
    );

  for (const length of [1, 3, 1000]) {
    const x = own(length);
    assert.equal(numbers(communicator.allReduce(x)), sums(length));
    assert.equal(
      numbers(communicator.allReduce(x, 'max')),
      numbers(x).map((_, i) => value(size - 1, i)),
    );
    assert.equal(
      numbers(x),
      Array.from({ length }, (_, i) => value(rank, i)),
      'the input stays',
    );
    const gathered = Array.from({ length: size }, (_, r) =>
      Array.from({ length }, (_, i) => value(r, i)),
    ).flat();
    assert.equal(numbers(communicator.allGather(x)), gathered);
    const shared = communicator.reduceScatter(own(length * size));
    assert.equal(numbers(shared), sums(length * size).slice(rank * length, (rank + 1) * length));
    const root = size - 1;
    assert.equal(
      numbers(communicator.broadcast(x, root)),
      Array.from({ length }, (_, i) => value(root, i)),
    );
  }
  assert.equal(communicator.allReduce(tf.tensor2d([[1], [2]])).shape, [2, 1]);
  assert.equal(numbers(communicator.allReduce(tf.tensor1d([rank], 'int32'))), [(size * (size - 1)) / 2]);

  // A chain: every rank but the last sends to the next.
  const next = rank + 1 < size ? { x: own(5), to: rank + 1 } : null;
  const previous = rank > 0 ? { shape: [5], dtype: 'float32' as const, from: rank - 1 } : null;
  const received = communicator.exchange(next, previous);
  assert.equal(received && numbers(received), previous && [0, 1, 2, 3, 4].map((i) => value(rank - 1, i)));

  assert.equal(
    communicator.gather({ rank, text: 'x'.repeat(rank) }),
    Array.from({ length: size }, (_, r) => ({ rank: r, text: 'x'.repeat(r) })),
  );
  if (size > 1) assert.throws(() => communicator.reduceScatter(own(size + 1)), /evenly/);
}

/** Ranks that keep a tensor in different precisions send the same number of bytes, and nothing is rounded. */
export function checkPrecision(communicator: Communicator): void {
  const { rank, size } = communicator;
  const exact = Float32Array.from({ length: 100 }, (_, i) => 1 + i / 2 ** 20);
  const root = size - 1;
  const own = rank === root ? float32Tensor(exact, [100]) : tf.zeros<tf.Rank.R1>([100]);
  assert.equal(numbers(communicator.broadcast(own, root)), [...exact]);
  const all = numbers(communicator.allGather(own as tf.Tensor1D, 'float32'));
  assert.equal(all.slice(root * 100), [...exact]);
  const next = rank === root ? { x: own, to: 0 } : null;
  const before = rank === 0 && size > 1 ? { shape: [100], dtype: 'float32' as const, from: root } : null;
  const received = size > 1 ? communicator.exchange(next, before) : null;
  if (received !== null) assert.equal(numbers(received), [...exact]);
}

/** Parts of the ranks by themselves, and all of them in between. */
export function checkSplit(communicator: Communicator): void {
  const { rank, size } = communicator;
  const parity = communicator.split(rank % 2);
  const alike = Array.from({ length: size }, (_, r) => r).filter((r) => r % 2 === rank % 2);
  assert.equal([parity.rank, parity.size], [alike.indexOf(rank), alike.length]);
  const whole = communicator.split(0);
  for (let round = 0; round < 3; round++) {
    const own = tf.tensor1d([value(rank, round)]);
    assert.equal(
      numbers(parity.allGather(own)),
      alike.map((r) => value(r, round)),
    );
    const all = Array.from({ length: size }, (_, r) => value(r, round));
    for (const some of [whole, communicator]) assert.equal(numbers(some.allGather(own)), all);
  }
  parity.close();
  whole.close();
}
