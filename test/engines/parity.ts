/** Runs the same computation on the CPU engine and on tfjs' plain backend and compares. */
import * as tf from '../../src/tf.js';
import * as assert from 'uvu/assert';
import { startCpu } from '../../src/engines/cpu/index.js';
import type { Engine } from '../../src/engines/engine.js';

/** Named so that every run draws the same numbers. */
export function randomValues(size: number, seed: number): Float32Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Float32Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

export function random(shape: number[], seed: number): tf.Tensor {
  return tf.tensor(randomValues(tf.util.sizeFromShape(shape), seed), shape);
}

export interface Result {
  readonly shape: number[];
  readonly values: Float32Array;
}

function evaluate(compute: () => tf.Tensor | tf.Tensor[]): Result[] {
  const tensors = tf.tidy(() => [compute()].flat());
  const results = tensors.map((tensor) => ({
    shape: tensor.shape,
    values: Float32Array.from(tensor.dataSync()),
  }));
  tf.dispose(tensors);
  return results;
}

export async function onPlainBackend(compute: () => tf.Tensor | tf.Tensor[]): Promise<Result[]> {
  await tf.setBackend('cpu');
  return evaluate(compute);
}

/** Runs on the engine twice (the second time in used memory) and checks that nothing leaks and nothing changes. */
async function onEngine(compute: () => tf.Tensor | tf.Tensor[]): Promise<Result[]> {
  const engine: Engine = await startCpu({ threads: 2 });
  evaluate(compute);
  const before = { tensors: tf.memory().numTensors, bytes: engine.memory().liveBytes };
  const first = evaluate(compute);
  const second = evaluate(compute);
  assert.is(tf.memory().numTensors, before.tensors, 'tensors leak');
  assert.is(engine.memory().liveBytes, before.bytes, 'bytes leak');
  for (const [i, result] of first.entries())
    assert.equal(second[i]?.values, result.values, 'results differ run to run');
  return first;
}

export async function assertParity(
  compute: () => tf.Tensor | tf.Tensor[],
  { tolerance = 1e-5, message = '' } = {},
): Promise<void> {
  const expected = await onPlainBackend(compute);
  const actual = await onEngine(compute);
  assertClose(actual, expected, tolerance, message);
}

/** Differences are measured against the largest expected magnitude of each result. */
export function assertClose(actual: Result[], expected: Result[], tolerance: number, message: string): void {
  assert.is(actual.length, expected.length, message);
  for (const [i, want] of expected.entries()) {
    const got = actual[i] as Result;
    assert.equal(got.shape, want.shape, `${message}: shape of result ${i}`);
    const finite = want.values.filter((value) => Number.isFinite(value));
    const scale = finite.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-2);
    want.values.forEach((value, at) => {
      const other = got.values[at] as number;
      const same = Object.is(value, other) || value === other || Math.abs(value - other) <= tolerance * scale;
      if (!same) assert.unreachable(`${message}: result ${i} at ${at} is ${other}, not ${value}`);
    });
  }
}
