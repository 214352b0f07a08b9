import { suite } from 'uvu';
import { parseGguf } from '../../../src/checkpoint/gguf/header.js';
import { refuses } from '../scratch.js';

const test = suite('checkpoint/gguf/header');

/** A header by hand: counts of tensors and fields, then what follows. */
function header(tensors: number, fields: number, ...rest: (number | bigint | string)[]): Buffer {
  const parts = rest.map((value) => {
    if (typeof value === 'string') return Buffer.from(value);
    const bytes = Buffer.alloc(typeof value === 'bigint' ? 8 : 4);
    if (typeof value === 'bigint') bytes.writeBigUInt64LE(value);
    else bytes.writeUInt32LE(value);
    return bytes;
  });
  const start = Buffer.alloc(24);
  start.write('GGUF');
  start.writeUInt32LE(3, 4);
  start.writeBigUInt64LE(BigInt(tensors), 8);
  start.writeBigUInt64LE(BigInt(fields), 16);
  return Buffer.concat([start, ...parts, Buffer.alloc(64)]);
}

test('hostile headers are refused before anything is allocated', () => {
  const parse = (content: Buffer, size = content.length): unknown =>
    parseGguf('a file', (position, length) => content.subarray(position, position + length), size);
  const w = [1n, 'w'] as const;
  const cases: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.from('GGML0000'), /not a GGUF file/],
    [header(0, 2 ** 50), /truncated: the list of 1125899906842624 fields/],
    [header(2 ** 50, 0), /truncated: the list of 1125899906842624 tensors/],
    [header(0, 1, 2n ** 60n), /truncated: the name of field 1/],
    [header(0, 1, ...w, 8, 2n ** 40n), /truncated: the value of "w"/],
    [header(0, 1, ...w, 9, 8, 2n ** 40n), /truncated: the list "w"/],
    [header(0, 1, ...w, 9, 4, 2n ** 40n), /truncated: the list "w"/],
    [header(0, 1, ...w, 9, 9, 1n), /a list of unknown type 9/],
    [header(0, 1, ...w, 77), /a value of unknown type 77/],
    [header(0, 2, ...w, 4, 1, ...w, 4, 1), /"w" occurs twice/],
    [header(1, 0, ...w, 9, 1n), /it has 9 dimensions/],
    [header(1, 0, ...w, 1, 32n, 3, 0n), /type Q4_1 is not read \(read: F32/],
    [header(1, 0, ...w, 1, 31n, 8, 0n), /rows of 31 are no multiple of 32, a block of Q8_0/],
    [header(1, 0, ...w, 2, 2n ** 40n, 2n ** 40n, 0, 0n), /beyond 2\^53/],
    [header(1, 0, ...w, 1, 32n, 0, 32n), /byte 32 of the data, expected 0/],
    [header(1, 0, ...w, 1, 4096n, 0, 0n), /truncated: tensor "w"/],
    [header(2, 0, ...w, 1, 1n, 0, 0n, 1n, 'v', 1, 1n, 0, 0n), /overlaps another/],
    [header(0, 1, 17n, 'general.alignment', 4, 3), /alignment is "3", expected a power of two/],
  ];
  for (const [content, expected] of cases) refuses(() => parse(content), expected);
});

test.run();
