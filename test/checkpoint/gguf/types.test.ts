import { createHash } from 'node:crypto';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BYTE_TYPES, quantizeQ8 } from '../../../src/checkpoint/gguf/types.js';

const test = suite('checkpoint/gguf/types');

/** Bytes that any program can make again: the high byte of a linear congruential generator. */
function bytes(count: number): Uint8Array {
  let state = 12345;
  return Uint8Array.from({ length: count }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 16) & 0xff;
  });
}

/** SHA-256 of four blocks as gguf 0.19 (gguf.quants.dequantize, llama.cpp's Python package) widens them; scales set to 0x2c66. */
const WIDENED: Readonly<Record<string, string>> = {
  Q8_0: '75d9fd42d9160b89',
  Q4_0: 'db97a7233266006a',
  Q5_0: 'ee314cd64bb2b7cf',
  Q4_K: '723100613cd6c091',
  Q5_K: '0defee36c5167668',
  Q6_K: 'bad0738d40f18a93',
};

for (const type of BYTE_TYPES.filter(({ plain }) => plain === null)) {
  test(`${type.name} is widened as llama.cpp does`, () => {
    const stored = bytes(4 * type.bytes);
    const values = new Float32Array(4 * type.elements);
    for (let block = 0; block < 4; block++) {
      const view = new DataView(stored.buffer, block * type.bytes, type.bytes);
      view.setUint16(type.name === 'Q6_K' ? 208 : 0, 0x2c66, true);
      if (/Q[45]_K/.test(type.name)) view.setUint16(2, 0x2c66, true);
      type.widen(view, values, block * type.elements);
    }
    const hash = createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');
    assert.is(hash.slice(0, 16), WIDENED[type.name]);
  });
}

test('Q8_0 rounds half away from zero and refuses what is not finite', () => {
  const values = Float32Array.from({ length: 32 }, (_, i) => (i === 0 ? 127 : i - 16.5));
  const out = new Uint8Array(34);
  assert.ok(quantizeQ8(values, out));
  assert.equal([...new Int8Array(out.buffer, 2, 4)], [127, -16, -15, -14]);
  assert.equal([...out.subarray(0, 2)], [0, 0x3c]);
  assert.ok(quantizeQ8(new Float32Array(32), out));
  for (const bad of [NaN, Infinity, 3e38]) {
    values[3] = bad;
    assert.not.ok(quantizeQ8(values, out));
  }
});

test.run();
