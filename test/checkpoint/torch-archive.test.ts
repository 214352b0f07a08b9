import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { deflateRawSync } from 'node:zlib';
import * as fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/checkpoint/safetensors.js';
import type { TensorEntry } from '../../src/checkpoint/safetensors.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { TorchArchive } from '../../src/checkpoint/torch-archive.js';
import { writeTorchArchive } from '../../src/checkpoint/torch-writer.js';
import { crc32, plainCrc32 } from '../../src/checkpoint/zip-writer.js';
import { sharedTest } from '../shared.js';
import { refuses, scratchDirectory, writeBytes } from './scratch.js';
import { archive, integer, oneTensor, pickle, readAll, tensorParts, text } from './torch-pickles.js';

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
