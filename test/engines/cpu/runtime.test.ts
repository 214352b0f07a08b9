import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { graph } from '../../../src/engines/cpu/graph.js';
import { OnnxRuntime } from '../../../src/engines/cpu/runtime.js';
import { randomValues } from '../parity.js';

const test = suite('cpu engine: ONNX Runtime');

const product = () =>
  graph((g) => {
    g.output('y', 2, g.op('MatMul', [g.input('a', 2), g.input('b', 2)]));
  });

function multiply(runtime: OnnxRuntime, [rows, inner, columns]: [number, number, number], dims?: number[]) {
  const y = new Float32Array(rows * columns);
  const a = runtime.wrap(randomValues(rows * inner, 1), [rows, inner]);
  const b = runtime.wrap(randomValues(inner * columns, 2), [inner, columns]);
  runtime.run('product', product, { a, b }, { y: runtime.wrap(y, dims ?? [rows, columns]) });
  return y;
}

test('writes results into the arrays it is given, small ones too', () => {
  const runtime = OnnxRuntime.load(2);
  for (const sizes of [
    [1, 1, 1],
    [1, 3, 2],
    [70, 33, 65],
  ] as [number, number, number][]) {
    const [rows, inner, columns] = sizes;
    const [a, b] = [randomValues(rows * inner, 1), randomValues(inner * columns, 2)];
    multiply(runtime, sizes).forEach((value, i) => {
      let sum = 0;
      for (let j = 0; j < inner; j++)
        sum += (a[Math.floor(i / columns) * inner + j] ?? 0) * (b[j * columns + (i % columns)] ?? 0);
      assert.ok(Math.abs(value - sum) < 1e-4, `${sizes.join('x')} at ${i}: ${value}, not ${sum}`);
    });
  }
});

test('engines with other numbers of threads work side by side', () => {
  const results = [1, 2, 3].map((threads) => multiply(OnnxRuntime.load(threads), [200, 300, 250]));
  for (const result of results)
    result.forEach((value, i) => {
      assert.ok(Math.abs(value - (results[0]?.[i] ?? NaN)) < 1e-4);
    });
});

test('refuses what does not fit, and goes on', () => {
  const runtime = OnnxRuntime.load(2);
  assert.throws(() => multiply(runtime, [4, 5, 6], [6, 4]), /ONNX Runtime: .*has shape/);
  assert.throws(() => multiply(runtime, [4, 5, 6], [40, 60]), /ONNX Runtime: .*not enough space/);
  assert.throws(() => {
    runtime.run('product', product, {}, {});
  }, /misses an input or output/);
  const dims = Array.from({ length: 9 }, () => 1);
  assert.throws(() => multiply(runtime, [1, 1, 1], dims), /9 dimensions/);
  assert.throws(
    () => { runtime.run('wrong', () => graph((g) => { g.output('y', 1, g.op('Nonsense', [g.input('x', 1)])); }), {}, {}); }, // prettier-ignore
    /ONNX Runtime: .*Nonsense/,
  );
  assert.is(multiply(runtime, [4, 5, 6]).length, 24);
});

test.run();
