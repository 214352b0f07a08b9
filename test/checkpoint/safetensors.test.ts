import fs, { chmodSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { syncBuiltinESMExports } from 'node:module';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RunError } from '../../src/errors.js';
import { bytesPerElement } from '../../src/checkpoint/data-type.js';
import { hasSafetensors, openSafetensors, writeShards } from '../../src/checkpoint/sharded.js';
import { SafetensorsFile, writeSafetensors } from '../../src/checkpoint/safetensors.js';
import type { TensorEntry, TensorSource } from '../../src/checkpoint/safetensors.js';
import { parseHeader } from '../../src/checkpoint/safetensors-header.js';
import { sharedTest } from '../shared.js';
import { refuses, rejects, scratchDirectory, writeBytes } from './scratch.js';

const test = suite('checkpoint/safetensors');
const at = scratchDirectory(test);

const entries: TensorEntry[] = [
  { name: 'flags', dtype: 'BOOL', shape: [3], data: Uint8Array.of(1, 0, 1) },
  { name: 'weight', dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, -2, 0.5, 3e-40) },
  { name: '7', dtype: 'I64', shape: [1], data: BigInt64Array.of(-(2n ** 62n)) },
  { name: 'half', dtype: 'F16', shape: [2], data: () => Float32Array.of(0.5, -65504) },
  { name: 'brain', dtype: 'BF16', shape: [1], data: () => Promise.resolve(Float32Array.of(0.5)) },
  { name: 'double', dtype: 'F64', shape: [], data: Float64Array.of(Math.PI) },
  { name: 'empty', dtype: 'F32', shape: [0, 4], data: new Float32Array() },
  { name: '__proto__', dtype: 'U8', shape: [1], data: Uint8Array.of(9) },
];

const all = (source: TensorSource): [string, string, number[], (number | bigint)[]][] =>
  [...source.names()]
    .sort()
    .map((name) => [
      name,
      source.info(name).dtype,
      [...source.info(name).shape],
      Array.from<number | bigint>(source.read(name)),
    ]);

/** A file of the given header (text or object) and data. */
function broken(header: string | object, data: Uint8Array = new Uint8Array(16), length?: bigint): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(json.byteLength));
  return writeBytes(at('broken.safetensors'), prefix, json, data);
}

const tensor = (begin: number, end: number, dtype = 'F32', shape = [(end - begin) / 4]) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

test('writes what it reads', async () => {
  await writeSafetensors(at('a.safetensors'), entries, { note: 'ä' });
  const file = SafetensorsFile.open(at('a.safetensors'));
  assert.is(file.metadata.get('note'), 'ä');
  assert.equal(all(file), [
    ['7', 'I64', [1], [-(2n ** 62n)]],
    ['__proto__', 'U8', [1], [9]],
    ['brain', 'BF16', [1], [0.5]],
    ['double', 'F64', [], [Math.PI]],
    ['empty', 'F32', [0, 4], []],
    ['flags', 'BOOL', [3], [1, 0, 1]],
    ['half', 'F16', [2], [0.5, -65504]],
    ['weight', 'F32', [2, 2], [1, -2, 0.5, Math.fround(3e-40)]],
  ]);
  const bytes = readFileSync(file.path);
  const end = 8 + Number(bytes.readBigUInt64LE());
  assert.is(end % 8, 0);
  const { tensors } = parseHeader(file.path, bytes.subarray(8, end), bytes.length - end);
  for (const { begin, dtype } of tensors.values()) {
    assert.is(begin % bytesPerElement(dtype), 0);
  }
  file.close();
  assert.equal(readdirSync(at()), ['a.safetensors']);
});

test('reads one tensor without the others', async () => {
  await writeSafetensors(at('a.safetensors'), entries);
  const file = SafetensorsFile.open(at('a.safetensors'));
  assert.equal([...file.read('weight')].slice(0, 2), [1, -2]);
  refuses(() => file.read('absent'), /a\.safetensors: there is no tensor "absent"/);
  truncateSync(file.path, 300);
  refuses(() => file.read('flags'), /truncated while it was being read/);
  file.close();
  refuses(() => file.read('weight'), /has been closed/);
});

test('opens files of gigabytes, of which it reads the header', () => {
  const size = 2 ** 32;
  const json = Buffer.from(JSON.stringify({ a: tensor(0, size), b: tensor(size, 3 * size) }));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.byteLength));
  writeBytes(at('large'), prefix, json);
  truncateSync(at('large'), 8 + json.byteLength + 3 * size); // holes take no room on the disk
  const file = SafetensorsFile.open(at('large'));
  assert.equal(file.info('b').shape, [2 ** 31]);
  file.close();
});

test('a failed write leaves what was there', async () => {
  await writeSafetensors(at('a.safetensors'), entries);
  const before = readFileSync(at('a.safetensors'));
  const failing: TensorEntry[] = [
    { name: 'a', dtype: 'F32', shape: [1], data: Float32Array.of(1) },
    { name: 'b', dtype: 'F32', shape: [1], data: () => Promise.reject(new RunError('device lost')) },
  ];
  const short: TensorEntry[] = [{ name: 'a', dtype: 'F32', shape: [2], data: Float32Array.of(1) }];
  for (const [list, message] of [
    [failing, /device lost/],
    [short, /tensor "a": 4 bytes of values where F32 \[2\] takes 8/],
    [[failing[0], failing[0]] as TensorEntry[], /two tensors of the name "a"/],
  ] as const) {
    await rejects(writeSafetensors(at('a.safetensors'), list), message);
    assert.equal(readdirSync(at()), ['a.safetensors']);
    assert.equal(readFileSync(at('a.safetensors')), before);
  }
});

test('says why a file cannot be written', async () => {
  writeFileSync(at('file'), '');
  await rejects(writeSafetensors(at('file/a.safetensors'), entries), /cannot write .*file/);
  mkdirSync(at('locked'));
  chmodSync(at('locked'), 0o500);
  if (process.getuid?.() === 0) return; // root may write anywhere
  await rejects(writeSafetensors(at('locked/a.safetensors'), entries), /cannot write .*permission denied/);
});

test('a full disk is an error in one line', async () => {
  const { writeSync } = fs;
  fs.writeSync = () => {
    throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
  };
  syncBuiltinESMExports();
  try {
    const message = /cannot write .*a\.safetensors: no space left/;
    await rejects(writeSafetensors(at('a.safetensors'), entries), message);
  } finally {
    fs.writeSync = writeSync;
    syncBuiltinESMExports();
  }
  assert.equal(readdirSync(at()), []);
});

test('shards beyond the limit and reads them as one', async () => {
  await writeShards(at(), entries, 1000);
  assert.equal(readdirSync(at()), ['model.safetensors']);
  mkdirSync(at('s'));
  await writeShards(at('s'), entries, 20);
  const names = readdirSync(at('s')).sort();
  assert.ok(names.length > 3 && names.includes('model.safetensors.index.json'));
  assert.ok(names.includes(`model-00001-of-0000${names.length - 1}.safetensors`));
  assert.ok(hasSafetensors(at('s')));
  const [whole, parts] = [openSafetensors(at()), openSafetensors(at('s'))];
  assert.equal(all(parts), all(whole));
  whole.close();
  parts.close();
});

test('shards must agree with their index', async () => {
  await writeShards(at(), entries.slice(0, 3), 12);
  const file = at('model.safetensors.index.json');
  const index = JSON.parse(readFileSync(file, 'utf8')) as { weight_map: Record<string, string> };
  const attempt = (weightMap: unknown, message: RegExp): void => {
    writeFileSync(file, JSON.stringify({ weight_map: weightMap }));
    refuses(() => openSafetensors(at()), message);
  };
  const { weight_map: map } = index;
  attempt({ ...map, other: map.weight }, /tensor "other" is missing/);
  attempt({ flags: map.flags, weight: map.weight, '7': '../x.safetensors' }, /not a file of the directory/);
  attempt({ ...map, '7': 'absent.safetensors' }, /cannot read .*absent\.safetensors: no such file/);
  attempt([], /weight_map: expected an object, found a list/);
  attempt({ ...map, '7': 5 }, /"5" is not a safetensors file/);
  writeFileSync(file, '{');
  refuses(() => openSafetensors(at()), /index\.json: not valid JSON/);
});

test('refuses malformed files, naming file and tensor', () => {
  const open = (): unknown => SafetensorsFile.open(at('broken.safetensors'));
  const corpus: [file: () => string, message: RegExp][] = [
    [() => writeBytes(at('broken.safetensors')), /broken\.safetensors: not a safetensors file: 0 bytes/],
    [() => broken('{}', new Uint8Array(), 2n ** 63n), /header length .* is beyond/],
    [() => broken('{}', new Uint8Array(), 3n), /truncated: the header ends at byte 11/],
    [() => broken('{"a":'), /header is not valid JSON/],
    [() => broken('[]'), /header is not a JSON object/],
    [() => broken('"\xff'), /header is not valid JSON/],
    [() => broken({ a: tensor(0, 16), b: tensor(8, 16) }), /tensor "b" overlaps/],
    [
      () => broken({ a: tensor(0, 20) }),
      /truncated: tensor "a" ends at byte 20 of the data, the file has 16/,
    ],
    [() => broken({ a: tensor(0, 8), b: tensor(12, 16) }), /4 bytes before tensor "b" belong to no tensor/],
    [() => broken({ a: tensor(0, 12) }), /the last 4 bytes/],
    [() => broken({}), /the last 16 bytes/],
    [
      () => broken({ a: tensor(0, 16, 'F64') }),
      /tensor "a": data_offsets hold 16 bytes where F64 \[4\] takes 32/,
    ],
    [() => broken({ a: tensor(16, 0) }), /tensor "a"/],
    [() => broken({ a: tensor(0, 16, 'F33') }), /tensor "a": unknown dtype "F33"/],
    [() => broken({ a: { ...tensor(0, 16), shape: [-4] } }), /its shape is not a list of sizes/],
    [() => broken({ a: { ...tensor(0, 16), shape: [2 ** 40, 2 ** 40] } }), /its shape is not/],
    [() => broken({ a: { ...tensor(0, 16), shape: 4 } }), /its shape is not/],
    [() => broken({ a: { ...tensor(0, 16), data_offsets: [0.5, 16] } }), /data_offsets are not/],
    [() => broken({ a: { ...tensor(0, 16), data_offsets: [0, 8, 16] } }), /data_offsets are not/],
    [() => broken({ a: 5 }), /tensor "a": its entry is not an object/],
    [() => broken({ a: null }), /its entry is not an object/],
    [() => broken({ __metadata__: { a: 1 }, b: tensor(0, 16) }), /__metadata__ "a" is not a string/],
    [() => broken({ __metadata__: [], b: tensor(0, 16) }), /__metadata__ is not an object/],
    [
      () => broken(`{"a":${JSON.stringify(tensor(0, 16))},"\\u0061":${JSON.stringify(tensor(0, 16))}}`),
      /the name "a" occurs twice/,
    ],
    [() => broken('{"a\\n":5}'), /tensor "a\\n"/],
    [() => broken(`{"${'x'.repeat(5000)}":5}`), /tensor "x{100,120}\.\.\."/],
    [() => broken('['.repeat(200000)), /not valid JSON/],
  ];
  for (const [make, message] of corpus) {
    make();
    refuses(open, message);
  }
  refuses(() => SafetensorsFile.open(at()), /is a directory|not a regular file/);
  refuses(() => SafetensorsFile.open(at('absent')), /cannot read .*absent: no such file/);
});

test('any bytes either read entirely or are refused', async () => {
  await writeSafetensors(at('a.safetensors'), entries);
  const valid = readFileSync(at('a.safetensors'));
  const change = fc.record({
    at: fc.integer({ min: 0, max: valid.byteLength - 1 }),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 4 }),
    cut: fc.option(fc.integer({ min: 0, max: valid.byteLength }), { nil: undefined }),
  });
  const outcome = (bytes: Uint8Array): void => {
    writeBytes(at('fuzz'), bytes);
    try {
      const file = SafetensorsFile.open(at('fuzz'));
      for (const name of file.names()) file.read(name);
      file.close();
    } catch (error) {
      if (!(error instanceof RunError) || error.message.includes('\n')) throw error;
    }
  };
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      let bytes = Buffer.from(valid);
      for (const { at: position, bytes: replacement, cut } of changes) {
        bytes.set(
          replacement.subarray(0, Math.max(0, bytes.byteLength - position)),
          Math.min(position, bytes.byteLength),
        );
        if (cut !== undefined) bytes = bytes.subarray(0, cut);
      }
      outcome(bytes);
    }),
    { numRuns: 300, seed: 1 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), outcome), { numRuns: 100, seed: 2 });
});

sharedTest(test, 'fixtures/yoco-gret-tiny/model.safetensors', 'reads files written by others', (path) => {
  const file = SafetensorsFile.open(path);
  assert.equal(file.info('embed_tokens.weight'), { dtype: 'F32', shape: [256, 64] });
  assert.is(file.names().length, 42);
  file.close();
});

test.run();
