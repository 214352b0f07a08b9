import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { inOrder, joined, ringOf, withPosition, type KeysAndValues } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { leakedTensors, usePlainBackend } from '../plain-backend.js';

const test = suite('ops: ring of a window');
test.before(usePlainBackend);

const [BATCH, HEADS, WIDTH] = [2, 3, 2];

/** Rows whose elements name their batch and position, values negative. */
function rowsAt(positions: readonly number[]): KeysAndValues {
  const of = (sign: number): tf.Tensor4D => {
    const rows = Array.from({ length: BATCH }, (_, batch) =>
      positions.map((position) =>
        new Array<number>(HEADS * WIDTH).fill(sign * (1000 * batch + position + 1)),
      ),
    );
    return tf.tensor4d(rows.flat(2), [BATCH, positions.length, HEADS, WIDTH]);
  };
  return [of(1), of(-1)];
}

const range = (start: number, end: number): number[] =>
  Array.from({ length: end - start }, (_, i) => start + i);

function holds(found: KeysAndValues, positions: readonly number[]): void {
  rowsAt(positions).forEach((expected, i) => {
    assert.equal(found[i]?.shape, expected.shape);
    assert.equal([...(found[i]?.dataSync() ?? [])], [...expected.dataSync()]);
  });
}

for (const window of [1, 2, 3, 5]) {
  test(`window of ${window}: what there is, oldest first, until it is full`, () => {
    const leaked = leakedTensors(() => {
      for (const start of [0, 7]) {
        for (let held = 1; held < window; held++) {
          tf.tidy(() => {
            const positions = range(start, start + held);
            const ring = ringOf(rowsAt(positions), start + held, window);
            holds(ring, positions);
            holds(inOrder(ring, start + held, window), positions);
          });
        }
      }
    });
    assert.is(leaked, 0);
  });

  test(`window of ${window}: then position p is row p mod window, and the order comes back`, () => {
    const leaked = leakedTensors(() => {
      for (let end = window; end < 2 * window + 2; end++) {
        for (const inPlace of [false, true]) {
          tf.tidy(() => {
            let ring = ringOf(rowsAt(range(0, end)), end, window);
            for (let position = end; position < end + 2 * window; position++) {
              const last = range(position - window, position);
              holds(
                ring,
                [...last].sort((a, b) => (a % window) - (b % window)),
              );
              holds(inOrder(ring, position, window), last);
              ring = withPosition(ring, rowsAt([position]), position, inPlace);
            }
          });
        }
      }
    });
    assert.is(leaked, 0);
  });
}

test('a ring that must not change in place stays as it was', () => {
  tf.tidy(() => {
    const ring = ringOf(rowsAt(range(0, 4)), 4, 3);
    const next = withPosition(ring, rowsAt([4]), 4, false);
    holds(inOrder(ring, 4, 3), [1, 2, 3]);
    holds(inOrder(next, 5, 3), [2, 3, 4]);
  });
});

test('one after the other', () => {
  tf.tidy(() => {
    holds(joined(rowsAt([3, 4]), rowsAt([5])), [3, 4, 5]);
  });
});

test.run();
