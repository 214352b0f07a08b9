/** Retention with fixed decays: values, states and gradients against the recurrence in float64. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { logDecays, retention } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { close, compareOp } from './compare.js';
import * as reference from './reference.js';

const test = suite('ops: retention');
test.before(usePlainBackend);

const FREQUENCIES = Float64Array.of(1, 0.1);
const [BATCH, HEADS, WIDTH] = [2, 3, 4];

const rotation = (start: number) => ({ start, frequencies: FREQUENCIES, style: 'interleaved' as const });

test('the decay of head h is 1 - 2^(-5 - h)', () => {
  assert.equal(
    [...logDecays(3)].map((log) => Math.round(Math.exp(log) * 2 ** 16) / 2 ** 16),
    [31 / 32, 63 / 64, 127 / 128],
  );
});

for (const [time, hasState] of [
  [1, true],
  [9, false],
  [70, true],
] as const) {
  test(`${time} positions${hasState ? ' after others' : ''}: values and gradients`, () => {
    const start = hasState ? 5 : 0;
    compareOp({
      shapes: [
        ...[0, 1, 2].map(() => [BATCH, time, HEADS, WIDTH]),
        ...(hasState ? [[BATCH, HEADS, WIDTH, WIDTH]] : []),
      ],
      op: (q, k, v, state) => {
        // Queries and keys are taken over.
        const [queries, keys] = [tf.clone(q as tf.Tensor4D), tf.clone(k as tf.Tensor4D)];
        const options = { rotation: rotation(start), state: state as tf.Tensor4D | undefined };
        const result = retention(queries, keys, v as tf.Tensor4D, options);
        assert.ok(queries.isDisposed && keys.isDisposed, 'disposed of');
        return [result.output, result.state];
      },
      reference: (...inputs) => {
        type A = reference.Array64;
        const [q, k, v, state] = inputs as [A, A, A, A | undefined];
        const turned = (x: A): A => reference.rotary(x, (_, t) => start + t, FREQUENCIES, 'interleaved');
        const decay = {
          shape: [BATCH, time, HEADS],
          data: Float64Array.from({ length: BATCH * time * HEADS }, (_, i) =>
            Math.log(1 - 2 ** (-5 - (i % HEADS))),
          ),
        };
        const result = reference.retention(turned(q), turned(k), v, decay, state);
        return [result.output, result.state];
      },
    });
  });
}

test('a sequence in two parts is the sequence', () => {
  tf.tidy(() => {
    const [q, k, v] = [1, 2, 3].map((seed) =>
      tf.randomNormal([1, 12, HEADS, WIDTH], 0, 1, 'float32', seed),
    ) as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];
    const part = (start: number, count: number, state?: tf.Tensor4D) => {
      const cut = (x: tf.Tensor4D): tf.Tensor4D => tf.slice(x, [0, start, 0, 0], [1, count, -1, -1]);
      return retention(cut(q), cut(k), cut(v), { rotation: rotation(start), state });
    };
    const first = part(0, 7);
    const second = part(7, 5, first.state);
    const whole = part(0, 12);
    close(tf.concat([first.output, second.output], 1), whole.output.dataSync(), 1e-5, 'output');
    close(second.state, whole.state.dataSync(), 1e-5, 'state');
  });
});

test.run();
