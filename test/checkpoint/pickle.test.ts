import * as fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchArchive } from '../../src/checkpoint/torch-archive.js';
import { refuses, scratchDirectory } from './scratch.js';
import { archive, integer, longText, pickle, readAll, tensorParts, text } from './torch-pickles.js';

const test = suite('checkpoint/pickle');
const at = scratchDirectory(test);

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

test.run();
