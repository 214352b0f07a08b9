/** Gradients by the kernels in C against loops in float64, on shapes that fill no vector, panel, chunk or segment. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadNative, type Native } from '../../../src/engines/cpu/native/library.js';
import { skipBecause } from '../../skip.js';
import { randomValues } from '../parity.js';

const test = suite('cpu engine: gradients in C');
const kernels = [1, 2, 3].map((threads) => loadNative(threads).native);

/** `run` returns results of which no bit may depend on the number of threads. */
function add(title: string, run: (native: Native) => readonly Float32Array[]): void {
  if (kernels.includes(null)) skipBecause('no C compiler when the package was installed', test, title);
  else
    test(title, () => {
      const [first, ...others] = kernels.map((native) => run(native as Native));
      for (const other of others) assert.equal(other, first);
    });
}

/** @param tolerance relative to the root mean square of what is expected */
function assertClose(found: Float32Array, expected: Float64Array, what: string, tolerance = 1e-5): void {
  const scale = Math.hypot(...expected) / Math.sqrt(expected.length);
  for (const [i, x] of expected.entries())
    assert.ok(
      Math.abs(x - (found[i] as number)) <= tolerance * scale,
      `${what}, ${i}: ${found[i]}, not ${x}`,
    );
}

interface Sizes {
  readonly time: number;
  readonly key: number;
  readonly value: number;
}

interface Operands {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly logDecay: Float32Array;
  readonly before: Float32Array;
  readonly dy: Float32Array;
  readonly dState: Float32Array;
}

const numbers = (length: number): Float64Array<ArrayBuffer> => new Float64Array(length);

/** The gradients of a single head, position by position: dq, dk, dv, dLogDecay, dState. Last the state after all positions. */
function retentionGradients(o: Operands, { time, key, value }: Sizes): Float64Array[] {
  const states = [Float64Array.from(o.before)];
  const each = (body: (i: number, j: number, at: number) => void): void => {
    for (let i = 0; i < key; i++) for (let j = 0; j < value; j++) body(i, j, i * value + j);
  };
  const at = (x: Float32Array | Float64Array, i: number): number => x[i] as number;
  const sum = (x: Float64Array, i: number, term: number): void => {
    x[i] = at(x, i) + term;
  };
  const scale = key ** -0.5;
  for (let t = 0; t < time; t++) {
    const [last, next] = [states[t] as Float64Array, numbers(key * value)];
    each((i, j, s) => {
      next[s] =
        Math.exp(at(o.logDecay, t)) * at(last, s) + scale * at(o.k, t * key + i) * at(o.v, t * value + j);
    });
    states.push(next);
  }
  const [dq, dk, dv] = [numbers(time * key), numbers(time * key), numbers(time * value)];
  const [dLogDecay, dState] = [numbers(time), Float64Array.from(o.dState)];
  for (let t = time - 1; t >= 0; t--) {
    const decay = Math.exp(at(o.logDecay, t));
    const [last, own] = [states[t] as Float64Array, states[t + 1] as Float64Array];
    each((i, j, s) => {
      const [row, column] = [t * key + i, t * value + j];
      sum(dState, s, at(o.q, row) * at(o.dy, column));
      sum(dq, row, at(own, s) * at(o.dy, column));
      sum(dk, row, scale * at(dState, s) * at(o.v, column));
      sum(dv, column, scale * at(dState, s) * at(o.k, row));
      sum(dLogDecay, t, decay * at(last, s) * at(dState, s));
      dState[s] = at(dState, s) * decay;
    });
  }
  return [dq, dk, dv, dLogDecay, dState, states[time] as Float64Array];
}

const RETENTIONS: readonly Sizes[] = [
  { time: 1, key: 3, value: 2 },
  { time: 64, key: 16, value: 40 },
  { time: 150, key: 24, value: 70 },
  { time: 129, key: 65, value: 7 },
  { time: 1025, key: 9, value: 5 },
  { time: 2200, key: 4, value: 17 },
];

/** Three heads of random numbers, of which the middle one is looked at: strides are those of several heads. */
const HEADS = 3;

/** Position by position, head 1 of rows of all heads. */
const middle = (x: Float32Array, time: number, width: number): Float32Array =>
  Float32Array.from({ length: time * width }, (_, i) => {
    const row = Math.floor(i / width) * HEADS + 1;
    return x[row * width + (i % width)] as number;
  });

for (const sizes of RETENTIONS)
  for (const forgets of [false, true])
    add(
      `gated retention, ${sizes.time} positions, ${sizes.key} to ${sizes.value}${forgets ? ', that forgets' : ''}`,
      (native) => {
        const { time, key, value } = sizes;
        const size = key * value;
        const random = (width: number, seed: number): Float32Array =>
          randomValues(time * HEADS * width, seed);
        const decays = random(1, 4).map((x, i) => {
          const isForgotten = forgets && Math.floor(i / HEADS) % 50 === 41;
          // Weak enough for the first positions to reach the last.
          return isForgotten ? -Infinity : (-4 / time) * Math.abs(x);
        });
        const [q, k, v, dy] = [random(key, 1), random(key, 2), random(value, 3), random(value, 6)];
        const [before, dState] = [randomValues(HEADS * size, 5), randomValues(HEADS * size, 7)];
        const operands = {
          ...{ q: middle(q, time, key), k: middle(k, time, key), v: middle(v, time, value) },
          ...{ logDecay: middle(decays, time, 1), dy: middle(dy, time, value) },
          ...{ before: before.subarray(size, 2 * size), dState: dState.subarray(size, 2 * size) },
        };
        const expected = retentionGradients(operands, sizes);
        const after = new Float32Array(HEADS * size);
        after.set(Float32Array.from(expected[5] as Float64Array), size);
        const outputs = [key, key, value, 1].map((width) => new Float32Array(time * HEADS * width).fill(NaN));
        const shape = [1, time, HEADS, HEADS, key, value];
        native.retention_grad(q, k, v, decays, before, after, dy, ...outputs, dState, ...shape);
        const found = [
          ...outputs.map((x) => middle(x, time, x.length / time / HEADS)),
          dState.slice(size, 2 * size),
        ];
        for (const [i, name] of ['dq', 'dk', 'dv', 'dLogDecay', 'dState'].entries()) {
          // The gradient of the decays is a difference of sums over all later positions.
          const tolerance = name === 'dLogDecay' ? 2e-5 * Math.sqrt(time) : 1e-5;
          assertClose(found[i] as Float32Array, expected[i] as Float64Array, name, tolerance);
        }
        return [...outputs, dState];
      },
    );

add('cross-entropy and its gradient', (native) =>
  [
    [1, 1],
    [5, 3],
    [37, 259],
    [3, 5001],
  ].flatMap(([rows, width]: readonly number[]) => {
    const [count, size] = [rows ?? 0, width ?? 0];
    const logits = randomValues(count * size, 1).map((x) => 20 * x);
    const targets = Int32Array.from({ length: count }, (_, i) => (i * 7919) % size);
    const weights = randomValues(count, 2);
    const [losses, slopes] = [numbers(count), numbers(count * size)];
    for (let row = 0; row < count; row++) {
      const own = logits.subarray(row * size, (row + 1) * size);
      const total = own.reduce((sum, x) => sum + Math.exp(x), 0);
      const [target, weight] = [targets[row] as number, weights[row] as number];
      losses[row] = Math.log(total) - (own[target] as number);
      for (const [i, x] of own.entries())
        slopes[row * size + i] = weight * (Math.exp(x) / total - (i === target ? 1 : 0));
    }
    const [found, gradient] = [new Float32Array(count), logits.slice()];
    native.cross_entropy(gradient, targets, weights, found, new Float32Array(count), count, size);
    const [alone, logSumExp] = [new Float32Array(count), new Float32Array(count)];
    native.cross_entropy(logits.slice(), targets, null, alone, logSumExp, count, size);
    // A loss of nearly 0 is what is left of numbers of the size of the logits.
    for (const [row, loss] of losses.entries())
      assert.ok(Math.abs((found[row] as number) - loss) < 2e-5, `${count}x${size}, loss ${row}`);
    assertClose(gradient, slopes, `${count}x${size}, gradient`);
    assert.equal(alone, found);
    const sums = losses.map((loss, row) => loss + (logits[row * size + (targets[row] as number)] as number));
    assertClose(logSumExp, sums, `${count}x${size}, logSumExp`);
    return [found, gradient];
  }),
);

add('the gradient of the embedding', (native) =>
  [
    [1, 1, 1],
    [70, 5, 9],
    [300, 67, 4],
  ].map(([rows = 0, width = 0, vocabulary = 0]: readonly number[]) => {
    const dy = randomValues(rows * width, 1);
    const ids = Int32Array.from({ length: rows }, (_, i) => (i * i * 31) % vocabulary);
    const expected = numbers(vocabulary * width);
    for (const [i, x] of dy.entries()) {
      const at = (ids[Math.floor(i / width)] as number) * width + (i % width);
      expected[at] = (expected[at] as number) + 3 * x;
    }
    const found = new Float32Array(vocabulary * width).fill(NaN);
    native.embedding_grad(dy, ids, found, rows, width, vocabulary, 3);
    assertClose(found, expected, `${rows} rows of ${width}`);
    return found;
  }),
);

add('sums of squares', (native) =>
  [1, 7, 65_536, 300_001].map((count) => {
    const x = randomValues(count, 1);
    const found = new Float32Array(1);
    native.sum_of_squares(x, found, count);
    const expected = x.reduce((sum, value) => sum + value * value, 0);
    assertClose(found, Float64Array.of(expected), `${count}`, 2e-7);
    return found;
  }),
);

test.run();
