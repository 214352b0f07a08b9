import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCorpus, type Split } from '../../src/data/corpus.js';

const test = suite('data/corpus');

let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-corpus-'));
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

const write = (name: string, content: string | Uint8Array): string => {
  const path = join(directory, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
  return path;
};

async function failure(spec: string): Promise<{ message: string; exitCode: number }> {
  try {
    await loadCorpus(spec);
  } catch (error) {
    return error as { message: string; exitCode: number } & Error;
  }
  throw new Error(`${spec} was accepted`);
}

test('the packages: State of the Union speeches one by one, Moby Dick as one book', async () => {
  const speeches = await loadCorpus('sotu');
  assert.is(speeches.documents, 233);
  assert.ok(speeches.bytes > 10e6);
  const book = await loadCorpus('moby-dick');
  assert.is(book.documents, 1);
  const text = book.text();
  const places = ['ETYMOLOGY', 'Call me Ishmael', 'CHAPTER 10. A Bosom', "The drama's done"].map((part) =>
    text.indexOf(part),
  );
  assert.is(places[0], 0);
  assert.equal(
    places,
    [...places].sort((a, b) => a - b),
  );
});

test('directories, globs and files are read in a fixed order, .txt as a document and .jsonl as many', async () => {
  write('dir/b.txt', 'bee');
  write('dir/a.jsonl', '{"text":"one"}\r\n\n{"text":"two","more":1}\n');
  write('dir/deep/c.txt', '\uFEFFsea');
  write('dir/ignored.md', 'not this');
  const corpus = await loadCorpus(join(directory, 'dir'));
  assert.is(corpus.documents, 4);
  assert.is(corpus.text(), 'one\ntwo\nbee\nsea\n');
  const glob = await loadCorpus([join(directory, 'dir', '**', '*.txt'), join(directory, 'dir', 'a.jsonl')]);
  assert.is(glob.text(), 'bee\nsea\none\ntwo\n');
  assert.is.not(glob.sha256, corpus.sha256);
  assert.is((await loadCorpus(join(directory, 'dir'))).sha256, corpus.sha256);
});

test('many documents: every twentieth is held out whole', async () => {
  const lines = Array.from({ length: 45 }, (_, i) => JSON.stringify({ text: `d${i + 1}` }));
  const corpus = await loadCorpus(write('many.jsonl', lines.join('\n')));
  assert.is(corpus.text('held-out'), 'd20\nd40\n');
  assert.is(corpus.text('train').split('\n').length - 1, 43);
});

test('few documents: the last twentieth of each is held out, and nothing is lost or doubled', async () => {
  write('few/a.txt', 'a'.repeat(2.5e6) + 'END');
  write('few/b.txt', `${'é'.repeat(94)}😀😀😀😀😀`);
  const corpus = await loadCorpus(join(directory, 'few'));
  const parts = (split: Split): string[] => corpus.text(split).trimEnd().split('\n');
  const [all, train, heldOut] = [parts('all'), parts('train'), parts('held-out')];
  assert.equal(
    train.map((text, i) => text + (heldOut[i] ?? '')),
    all,
  );
  assert.is(heldOut[0]?.length, 2500003 - Math.floor(2500003 * 0.95));
  assert.ok(
    [...train, ...heldOut].every((text) => Buffer.from(text).toString() === text),
    'no character is cut in two',
  );
});

test('what cannot be read is refused in one line', async () => {
  assert.match((await failure('no-such-thing')).message, /no such file or directory.*sotu, moby-dick/);
  assert.is((await failure('no-such-thing')).exitCode, 2);
  assert.match((await failure(join(directory, 'x*.txt'))).message, /no file matches/);
  assert.match((await failure(write('empty.txt', ''))).message, /empty\.txt is empty/);
  assert.match(
    (await failure(write('zero.txt', 'ab\0c'))).message,
    /zero\.txt is not a text file: byte 2 is zero/,
  );
  const utf16 = write('utf16.txt', Uint8Array.of(0xff, 0xfe, 0x61, 0));
  assert.match((await failure(utf16)).message, /utf16\.txt is UTF-16, but UTF-8 is read: convert it/);
  const latin1 = write('latin1.txt', Uint8Array.of(0x61, 0xe9, 0x61));
  assert.match((await failure(latin1)).message, /not a text file: invalid UTF-8/);
  assert.match(
    (await failure(write('cut.txt', Uint8Array.of(0x61, 0xc3)))).message,
    /invalid UTF-8 at its end/,
  );
  mkdirSync(join(directory, 'nothing'));
  assert.match((await failure(join(directory, 'nothing'))).message, /holds no \.txt, \.jsonl or \.parquet/);
  const broken = write('broken.jsonl', '{"text":"a"}\n{"text":');
  assert.match((await failure(broken)).message, /broken\.jsonl:2: not valid JSON/);
  const other = write('other.jsonl', '{"text":"a"}\n\n{"body":"b"}\n');
  assert.match(
    (await failure(other)).message,
    /other\.jsonl:3: expected an object with a text in the field "text"/,
  );
  assert.match(
    (await failure(write('array.jsonl', '[1]'))).message,
    /array\.jsonl:1: expected a JSON object/,
  );
});

test('a line that is no document is refused before it is a text', async () => {
  const path = write('long.jsonl', Buffer.alloc(2 ** 26 + 2 ** 20, 'a'));
  assert.match((await failure(path)).message, /long\.jsonl:1: the line has more than 67108864 characters/);
});

test.run();
