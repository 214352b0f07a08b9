import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { deflateRawSync } from 'node:zlib';
import * as fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RunError } from '../../src/errors.js';
import { SafetensorsFile } from '../../src/checkpoint/safetensors.js';
import type { TensorEntry } from '../../src/checkpoint/safetensors.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { TorchArchive } from '../../src/checkpoint/torch-archive.js';
import { writeTorchArchive } from '../../src/checkpoint/torch-writer.js';
import { crc32, plainCrc32 } from '../../src/checkpoint/zip-writer.js';
import { sharedTest } from '../shared.js';
import { refuses, scratchDirectory, writeBytes } from './scratch.js';
import { archive, integer, longText, oneTensor, pickle, tensorParts, text } from './torch-pickles.js';

const test = suite('checkpoint/torch-archive');
const at = scratchDirectory(test);

const entries: TensorEntry[] = [
  { name: 'layer.weight', dtype: 'F32', shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
  { name: 'half', dtype: 'F16', shape: [2], data: Float32Array.of(0.5, -2) },
  { name: 'brain', dtype: 'BF16', shape: [1], data: Float32Array.of(-1.5) },
  { name: 'count', dtype: 'I64', shape: [], data: BigInt64Array.of(7n) },
  { name: 'empty', dtype: 'F32', shape: [0, 3], data: new Float32Array() },
  { name: 'ünï', dtype: 'BOOL', shape: [2], data: Uint8Array.of(0, 1) },
];

test('reads what it writes', async () => {
  await writeTorchArchive(at('a.pth'), entries);
  const file = TorchArchive.open(at('a.pth'));
  assert.equal(
    [...file.names()],
    entries.map(({ name }) => name),
  );
  for (const { name, dtype, shape } of entries) assert.equal(file.info(name), { dtype, shape });
  assert.equal([...file.read('layer.weight')], [1, 2, 3, 4, 5, 6]);
  assert.equal([...file.read('half'), ...file.read('brain')], [0.5, -2, -1.5]);
  assert.equal([...file.read('count')], [7n]);
  assert.is(file.read('empty').length, 0);
  assert.equal([...file.read('ünï')], [0, 1]);
  refuses(() => file.read('absent'), /there is no tensor "absent"/);
  file.close();
  const bytes = readFileSync(at('a.pth'));
  await writeTorchArchive(at('b.pth'), entries);
  assert.equal(readFileSync(at('b.pth')), bytes, 'the same tensors give the same file');
});

test('crc32 has the check value of its standard', () => {
  for (const compute of [crc32, plainCrc32]) assert.is(compute(Buffer.from('123456789')), 0xcbf43926);
});

test('gathers strided views and shares storages', () => {
  const storage = new Uint8Array(Float32Array.from({ length: 12 }, (_, index) => index).buffer);
  const view = { elements: 12, offset: 1, shape: [3, 2], strides: [1, 4] };
  const data = pickle(
    '}(',
    text('t'),
    ...tensorParts(view),
    text('row'),
    ...tensorParts({ elements: 12, offset: 8 }),
    'u.',
  );
  const file = TorchArchive.open(archive(at('a.pth'), data, { 'a/data/0': storage }));
  assert.equal([...file.read('t')], [1, 5, 2, 6, 3, 7]);
  assert.equal([...file.read('row')], [8, 9, 10, 11]);
  file.close();
});

test('names tensors in nested containers by their path', () => {
  const data = pickle('}', text('model'), '}', text('list'), ']', ...tensorParts(), 'as', 's.');
  const file = TorchArchive.open(archive(at('a.pth'), data));
  assert.equal(file.names(), ['model.list.0']);
  file.close();
});

test('pickles may hold nothing but tensors and containers', () => {
  const corpus: [data: Buffer, message: RegExp][] = [
    [pickle('ios\nsystem\n.'), /opcode 0x69 at byte 2/],
    [pickle('(cos\nsystem\no.'), /opcode 0x6f/],
    [pickle(0x82, 1, '.'), /opcode 0x82/],
    [pickle("S'a'\n."), /opcode 0x53/],
    [pickle('Pid\n.'), /opcode 0x50/],
    [pickle('ctorch\nFloatStorage\n)R.'), /a call of what is not a function/],
    [pickle(text('x'), ')R.'), /a call of what is not a function/],
    [pickle(...tensorParts(), '}b.'), /attributes on what is not a dict/],
    [pickle('}', longText('k'.repeat(2000)), integer(1), 's.'), /a key of 2000 characters/],
    [pickle(text('x'), 'Q.'), /a persistent id that is not a storage/],
    [pickle('.'), /damaged pickle: the stack is empty/],
    [pickle('}t.'), /there is no mark/],
    [pickle('h', 9, '.'), /memo 9 is empty/],
    [pickle(integer(1), integer(2), 'a.'), /appending to what is not a list/],
    [pickle('](', integer(1), integer(1), 'u.'), /setting an item of what is not a dict/],
    [pickle('}(', text('a'), 'u.'), /a key without a value/],
    [pickle('}'), /damaged pickle: it is cut short/],
    [pickle('X', 255, 255, 255, 255), /it is cut short/],
    [pickle(0x8d, 255, 255, 255, 255, 255, 255, 255, 255), /it is cut short/],
    [pickle('ctorch'), /it is cut short/],
    [Buffer.alloc(17 * 2 ** 20, '}'), /refused: a pickle of 17825792 bytes/],
  ];
  for (const [data, message] of corpus) refuses(() => TorchArchive.open(archive(at('a.pth'), data)), message);
});

test('what a pickle names that is not read is never called, and lies beside the tensors', () => {
  const beside: Parameters<typeof pickle>[] = [
    ['cos\nsystem\n', text('true'), 0x85, 'R'],
    ['cposix\nsystem\n'],
    ['cbuiltins\neval\n', text('1'), 0x85, 'R'],
    ['c__builtin__\ngetattr\n'],
    [text('os'), text('system'), 0x93],
    // argparse.Namespace with its attributes; a numpy scalar; a set; a dtype; items of a foreign mapping.
    ['cargparse\nNamespace\n)', 0x81, '}', text('lr'), integer(1), 'sb'],
    ['cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n', text('f8'), 0x85, 'RC', 1, 'xtR'],
    [0x8f, '(', integer(1), 0x90],
    ['(', integer(1), 0x91],
    ['ctorch\nfloat32\n'],
    ['ccollections\ndefaultdict\n)R', text('a'), integer(1), 's'],
    ['}', ')', integer(1), 's'],
    tensorParts({ storage: 'QInt8Storage' }),
  ];
  for (const parts of beside) {
    const data = pickle('}', text('other'), ...parts, 's', text('w'), ...tensorParts(), 's.');
    const file = TorchArchive.open(archive(at('a.pth'), data));
    assert.equal(file.names(), ['w']);
    file.close();
  }
});

test('what would take much memory is refused first', () => {
  const many = (count: number, ...parts: string[]): Buffer => pickle(parts.join('').repeat(count), '.');
  const nested = [...Array(30).keys()].map(() => '}' + longText('n'.repeat(1000)).toString('latin1'));
  const tensors = Array.from({ length: 2000 }, (_, index) => text(`t${index}`).toString('latin1') + 'h\0');
  const corpus: [data: Buffer, message: RegExp][] = [
    [many(15 * 2 ** 20, '}'), /more than 1000000 objects/],
    [many(15 * 2 ** 20, ']'), /more than 1000000 objects/],
    [many(15 * 2 ** 20, '('), /more than 1000000 objects/],
    [many(7 * 2 ** 20, 'C\0'), /more than 1000000 objects/],
    [pickle('N', Buffer.alloc(15 * 2 ** 20, 0x94), '.'), /more than 2000000 memo entries/],
    [pickle(...tensorParts(), 'q\0', '](', 'h\0'.repeat(2 ** 20), 'e.'), /refused: its containers/],
    [
      pickle(...tensorParts(), 'q\0', nested.join(''), '}(', tensors.join(''), 'u', 's'.repeat(30), '.'),
      /refused: its names have more than/,
    ],
    [pickle(0x8b, 255, 255, 0, 0), /an integer of 65535 bytes/],
  ];
  for (const [data, message] of corpus) {
    const before = process.memoryUsage().rss;
    refuses(() => TorchArchive.open(archive(at('a.pth'), data)), message);
    assert.ok(process.memoryUsage().rss - before < 600e6, String(message));
  }
});

test('a pickle is not read before its size is known', () => {
  // A sparse file: the archive says 3 GB, and nothing of it is touched.
  archive(at('a.pth'), Buffer.alloc(17 * 2 ** 20));
  refuses(() => TorchArchive.open(at('a.pth')), /refused: a pickle of 17825792 bytes/);
});

test('files that stand for others are named', () => {
  const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n';
  writeFileSync(at('a.pth'), pointer);
  refuses(() => TorchArchive.open(at('a.pth')), /git-lfs pointer.*git lfs pull/);
  writeFileSync(at('a.safetensors'), pointer);
  refuses(() => SafetensorsFile.open(at('a.safetensors')), /git-lfs pointer/);
  for (const [name, message] of [
    ['pytorch_model.bin', /pytorch_model\.bin holds the weights in a form that is not read.*safetensors/],
    ['model.pth', /model\.pth: a file of weights alone says no configuration/],
  ] as const) {
    mkdirSync(at(`d-${name}`));
    writeFileSync(at(`d-${name}/${name}`), 'x');
    refuses(() => openCheckpoint(at(`d-${name}`)), message);
    refuses(() => openCheckpoint(at(`d-${name}/${name}`)), /is a file.*give the directory/);
  }
});

test('tensors must lie in their storages', () => {
  const corpus: [data: Buffer, message: RegExp][] = [
    [oneTensor({ shape: [5] }), /reaches beyond its storage of 4/],
    [oneTensor({ offset: 1 }), /reaches beyond/],
    [oneTensor({ offset: -1 }), /are no sizes/],
    [oneTensor({ strides: [-1] }), /are no sizes/],
    [oneTensor({ shape: [2 ** 30, 2 ** 30], strides: [0, 0] }), /refused: .* repeats the 1 elements/],
    [
      oneTensor({ shape: [2 ** 30], strides: [0] }),
      /refused: a tensor \[1073741824\] repeats the 1 elements/,
    ],
    [oneTensor({ strides: [1, 1] }), /are no sizes/],
    [oneTensor({ elements: 5 }), /tensor "w": its storage holds 16 bytes where 20 are declared/],
    [oneTensor({ key: '../0' }), /its storage holds no bytes where 16 are declared/],
    [pickle('ctorch._utils\n_rebuild_tensor_v2\n(', integer(1), 'tR.'), /a tensor without a storage/],
    [pickle('ctorch._utils\n_rebuild_parameter\n(', integer(1), 'tR.'), /a parameter without a tensor/],
  ];
  for (const [data, message] of corpus) refuses(() => TorchArchive.open(archive(at('a.pth'), data)), message);
});

test('containers that hold each other do not grow without end', () => {
  // Thirty dicts, each twice in the next: 2^30 paths.
  const levels = Array.from({ length: 30 }, (_, level) => [
    ...['}q', level + 1, '(', text('a'), 'h', level, text('b'), 'h', level, 'u'],
  ]);
  const laughs = pickle('}q', 0, ...levels.flat(), '.');
  refuses(() => TorchArchive.open(archive(at('a.pth'), laughs)), /refused: its containers/);
  const cycle = pickle(']q', 0, 'h', 0, 'a.');
  refuses(() => TorchArchive.open(archive(at('a.pth'), cycle)), /refused: its containers/);
});

test('archives must be whole, plain and little-endian', () => {
  const bytes = readFileSync(archive(at('good.pth'), oneTensor()));
  const changed = (change: (copy: Buffer) => Buffer | undefined): string => {
    const copy = Buffer.from(bytes);
    return writeBytes(at('bad.pth'), change(copy) ?? copy);
  };
  const central = bytes.indexOf(Buffer.from('PK\x01\x02', 'latin1'));
  const second = bytes.indexOf(Buffer.from('PK\x01\x02', 'latin1'), central + 1);
  const corpus: [file: () => string, message: RegExp][] = [
    [() => writeBytes(at('bad.pth')), /bad\.pth: damaged or truncated zip archive: it has no end record/],
    [() => changed((b) => b.subarray(0, b.byteLength - 30)), /no end record/],
    [() => changed((b) => b.subarray(40)), /zip archive/],
    [
      () => changed((b) => void b.writeUInt16LE(8, central + 10)),
      /refused: entry "a\/data\.pkl" is compressed/,
    ],
    [() => changed((b) => void b.writeUInt16LE(1, central + 8)), /compressed or encrypted/],
    [() => changed((b) => void b.writeUInt32LE(5, central + 20)), /compressed/],
    [() => changed((b) => void b.writeUInt32LE(0, second + 42)), /overlaps another/],
    [() => changed((b) => void b.fill(0xfe, second + 20, second + 28)), /lies outside the file/],
    [() => changed((b) => void b.write('X', 30)), /another name in its own header/],
    [() => changed((b) => void b.write('X', 0)), /has no data where the directory says/],
    [() => changed((b) => void b.write('X', central)), /its directory is not one/],
    [() => archive(at('bad.pth'), oneTensor(), { 'b/data.pkl': oneTensor() }), /no single data\.pkl/],
    [
      () =>
        archive(at('bad.pth'), oneTensor(), {
          'a/data/0': new Uint8Array(16),
          'a/byteorder': Buffer.from('big'),
        }),
      /"big"-endian/,
    ],
    [() => writeBytes(at('bad.pth'), pickle('.'), new Uint8Array(100)), /from before version 1\.6/],
    [() => writeBytes(at('bad.pth'), deflateRawSync(new Uint8Array(1e6))), /no end record/],
  ];
  for (const [make, message] of corpus) {
    const path = make();
    refuses(() => TorchArchive.open(path), message);
  }
});

/** Reads everything; anything but success or a one-line refusal is an error. */
function readAll(path: string): void {
  try {
    const file = TorchArchive.open(path);
    for (const name of file.names()) file.read(name);
    file.close();
  } catch (error) {
    if (!(error instanceof RunError) || error.message.includes('\n')) throw error;
  }
}

test('any archive either reads entirely or is refused', async () => {
  await writeTorchArchive(at('a.pth'), entries);
  const valid = readFileSync(at('a.pth'));
  const change = fc.tuple(fc.nat(valid.byteLength - 1), fc.uint8Array({ minLength: 1, maxLength: 4 }));
  fc.assert(
    fc.property(
      fc.array(change, { minLength: 1, maxLength: 4 }),
      fc.nat(valid.byteLength * 5),
      (changes, cut) => {
        const bytes = Buffer.from(valid);
        for (const [position, replacement] of changes) {
          bytes.set(replacement.subarray(0, bytes.byteLength - position), position);
        }
        readAll(writeBytes(at('fuzz'), bytes.subarray(0, cut < valid.byteLength ? cut : valid.byteLength)));
      },
    ),
    { numRuns: 300, seed: 1 },
  );
});

test('any pickle either reads entirely or is refused', () => {
  const opcode = fc.constantFrom(
    ...Array.from('}])(tasuqhRbQ.N0GJKMX\x85\x86\x87\x88\x89\x81\x93\x94\x95\x8a\x8c'),
  );
  const piece = fc.oneof(
    { weight: 6, arbitrary: opcode },
    fc.constantFrom(
      ...tensorParts().map((part) =>
        typeof part === 'string' ? part : Buffer.from([part as number].flat()),
      ),
    ),
    fc.constant(Buffer.concat([pickle(...tensorParts()).subarray(2)])),
    fc.uint8Array({ maxLength: 3 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 24 }), (pieces) => {
      readAll(archive(at('fuzz'), pickle(...pieces, '.')));
    }),
    { numRuns: 500, seed: 3 },
  );
});

sharedTest(test, 'fixtures/pth', 'reads every dtype and view that torch wrote', (directory) => {
  const [file, expected] = [
    TorchArchive.open(`${directory}/dtypes.pth`),
    SafetensorsFile.open(`${directory}/expected.safetensors`),
  ];
  assert.equal([...file.names()].sort(), [...expected.names()].sort());
  for (const name of file.names()) {
    assert.equal(Array.from(file.read(name), Number), Array.from(expected.read(name), Number), name);
  }
  const nested = TorchArchive.open(`${directory}/nested.pth`);
  assert.equal(nested.names(), ['model.w', 'model.b']);
  for (const source of [file, expected, nested]) source.close();
});

sharedTest(
  test,
  'fixtures/yoco-gret-tiny/checkpoint.pth',
  'checkpoint.pth equals model.safetensors',
  (path) => {
    const file = TorchArchive.open(path);
    const expected = SafetensorsFile.open(path.replace('checkpoint.pth', 'model.safetensors'));
    assert.equal([...file.names()].sort(), [...expected.names()].sort());
    for (const name of file.names()) assert.equal(file.readBytes(name), expected.readBytes(name), name);
    file.close();
    expected.close();
  },
);

test.run();
