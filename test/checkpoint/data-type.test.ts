import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RunError } from '../../src/errors.js';
import {
  bytesPerElement,
  decodeValues,
  elementCount,
  encodeValues,
  floatToHalf,
} from '../../src/checkpoint/data-type.js';
import type { DataType } from '../../src/checkpoint/data-type.js';

const test = suite('checkpoint/data-type');

/** All 65,536 bit patterns of a 16-bit type. */
const patterns = Uint16Array.from({ length: 65536 }, (_, index) => index);

for (const dtype of ['F16', 'BF16'] as const) {
  test(`every ${dtype} pattern survives widening and narrowing`, () => {
    const values = decodeValues(new Uint8Array(patterns.buffer), dtype) as Float32Array;
    const back = new Uint16Array(encodeValues(values, dtype).buffer);
    for (let bits = 0; bits < 65536; bits++) {
      if (Number.isNaN(values[bits]))
        assert.ok(Number.isNaN(decodeValues(encodeValues(values.slice(bits, bits + 1), dtype), dtype)[0]));
      else if (back[bits] !== bits) assert.is(back[bits], bits);
    }
  });
}

test('half precision has the values of IEEE 754', () => {
  const known: [number, number][] = [
    [0x3c00, 1],
    [0xc000, -2],
    [0x7bff, 65504],
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x7c00, Infinity],
    [0x3555, 0.333251953125],
  ];
  for (const [bits, value] of known) {
    assert.is(decodeValues(new Uint8Array(Uint16Array.of(bits).buffer), 'F16')[0], value);
    assert.is(floatToHalf(value), bits);
  }
});

test('rounds to nearest, ties to even', () => {
  assert.is(floatToHalf(1 + 2 ** -11), 0x3c00);
  assert.is(floatToHalf(1 + 3 * 2 ** -11), 0x3c02);
  assert.is(floatToHalf(1 + 2 ** -11 + 2 ** -20), 0x3c01);
  assert.is(floatToHalf(65519), 0x7bff);
  assert.is(floatToHalf(65520), 0x7c00);
  assert.is(floatToHalf(2 ** -25), 0);
  assert.is(floatToHalf(2 ** -25 * 1.5), 1);
  const bytes = encodeValues(Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, 3.4e38), 'BF16');
  assert.equal([...new Uint16Array(bytes.buffer)], [0x3f80, 0x3f82, 0x7f80]);
});

test('values are stored as their own type only', () => {
  assert.throws(
    () => encodeValues(Int32Array.of(1), 'F32'),
    (error: Error) => error instanceof RunError && error.message.includes('Int32Array'),
  );
  assert.throws(() => encodeValues(Float32Array.of(1), 'I64'), /BigInt64Array/);
  const sizes: [DataType, number][] = [
    ['F64', 8],
    ['I64', 8],
    ['BF16', 2],
    ['BOOL', 1],
  ];
  for (const [dtype, size] of sizes) assert.is(bytesPerElement(dtype), size);
});

test('a count of elements is refused before it is inexact', () => {
  assert.is(elementCount([]), 1);
  assert.is(elementCount([3, 0, 2 ** 40]), 0);
  assert.is(elementCount([2 ** 30, 2 ** 30]), undefined);
  assert.is(elementCount([-1]), undefined);
  assert.is(elementCount([1.5]), undefined);
  assert.is(elementCount(['4']), undefined);
});

test.run();
