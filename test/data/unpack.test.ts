import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCorpus } from '../../src/data/corpus.js';
import { sharedTest } from '../shared.js';

const test = suite('data/unpack');
const directory = mkdtempSync(join(tmpdir(), 'yoco-unpack-'));
test.after(() => {
  rmSync(directory, { recursive: true });
});

const LINES = '{"text":"first document"}\n{"text":"second – naïve"}\n';
/** The same lines written by xz and zstd, and the same texts written by pyarrow with zstd pages. */
const XZ =
  '/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4AA2ADVdAD2IioaUiBPg84lFfQFrtMGfX43KC7yCMmxg12W9jIOUBBKbIcaD+RYKunfOUS7Ufb1r9BQgAAAAAGvEncXocmkJAAFRNzF8mzsftvN9AQAAAAAEWVo=';
const ZSTD = 'KLUv/SQ3uQEAeyJ0ZXh0IjoiZmlyc3QgZG9jdW1lbnQifQp7InRleHQiOiJzZWNvbmQg4oCTIG5hw692ZSJ9CjgvJas=';
const PARQUET =
  'UEFSMRUEFSAVMkwVBBUAEgAAKLUv/SAQgQAAAQAAAAAAAAACAAAAAAAAABUAFRIVJCwVBBUQFQYVBhwYCAIAAAAAAAAAGAgBAAAAAAAAABYAKAgCAAAAAAAAABgIAQAAAAAAAAAREQAAACi1L/0gCUkAAAIAAAAEAQEDAhUEFU4VYEwVBBUAEgAAKLUv/SAnOQEADgAAAGZpcnN0IGRvY3VtZW50EQAAAHNlY29uZCDigJMgbmHDr3ZlFQAVEhUkLBUEFRAVBhUGHDYAKBFzZWNvbmQg4oCTIG5hw692ZRgOZmlyc3QgZG9jdW1lbnQREQAAACi1L/0gCUkAAAIAAAAEAQEDAhUEGTw1ABgGc2NoZW1hFQQAFQQlAhgCaWQAFQwlAhgEdGV4dCUATBwAAAAWBBkcGSwmABwVBBk1AAYQGRgCaWQVDBYEFswBFvABJlYmCBwYCAIAAAAAAAAAGAgBAAAAAAAAABYAKAgCAAAAAAAAABgIAQAAAAAAAAAREQAZLBUEFQAVAgAVABUQFQIAPCkGGSYABAAAACYAHBUMGTUABhAZGAR0ZXh0FQwWBBbwARaUAib0Aib4ARw2ACgRc2Vjb25kIOKAkyBuYcOvdmUYDmZpcnN0IGRvY3VtZW50EREAGSwVBBUAFQIAFQAVEBUCADwWPhkGGSYABAAAABa8AxYEJggWhAQAKCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI2LjAuMRksHAAAHAAAADIBAABQQVIx';

const bytesOf = (base64: string): Buffer => Buffer.from(base64, 'base64');

function write(name: string, bytes: Uint8Array | string): string {
  const file = join(directory, name);
  writeFileSync(file, bytes);
  return file;
}

async function textsOf(...files: string[]): Promise<string[]> {
  const corpus = await loadCorpus(files);
  return [...corpus.pieces()].map(({ text }) => text);
}

async function failure(file: string): Promise<string> {
  return loadCorpus(file).then(
    () => 'no error',
    (error: unknown) => (error as Error).message,
  );
}

const PACKED: Readonly<Record<string, Uint8Array>> = {
  'two.jsonl.gz': gzipSync(LINES),
  'two.jsonl.xz': bytesOf(XZ),
  'two.jsonl.zst': bytesOf(ZSTD),
};

test('compressed files hold the documents and the hash of the plain ones', async () => {
  const plain = await loadCorpus(write('two.jsonl', LINES));
  for (const [name, bytes] of Object.entries(PACKED)) {
    const file = write(name, bytes);
    assert.equal(await textsOf(file), ['first document', 'second – naïve'], name);
    const { sha256, documents } = await loadCorpus(file);
    assert.equal([sha256, documents], [plain.sha256, 2], name);
  }
  assert.equal(await textsOf(write('two.parquet', bytesOf(PARQUET))), ['first document', 'second – naïve']);
  assert.equal(await textsOf(write('plain.txt.gz', gzipSync('one text'))), ['one text', '']);
});

test('files made of several compressed streams are read to their end', async () => {
  for (const [name, bytes] of Object.entries(PACKED)) {
    const file = write(`twice-${name}`, Buffer.concat([bytes, bytes]));
    assert.is((await loadCorpus(file)).documents, 4, name);
  }
});

test('truncated and damaged files are errors that name the file, not shorter texts', async () => {
  for (const [name, bytes] of [...Object.entries(PACKED), ['two.parquet', bytesOf(PARQUET)] as const]) {
    const file = write(`cut-${name}`, bytes.subarray(0, bytes.length - 12));
    assert.match(await failure(file), /cannot unpack .*cut-two\./, name);
  }
  assert.match(await failure(write('no.jsonl.gz', 'plain')), /cannot unpack .*no\.jsonl\.gz \(gzip\)/);
  const bad = write('bad.jsonl.gz', gzipSync('{"text":"a"}\n{"txt":"b"}\n'));
  assert.match(await failure(bad), /bad\.jsonl\.gz:2: expected an object with a text/);
  assert.match(await failure(write('empty.txt.gz', gzipSync(''))), /empty\.txt\.gz is empty/);
  for (const end of ['jsonl.gz', 'jsonl.xz', 'jsonl.zst', 'parquet']) {
    assert.match(await failure(write(`nothing.${end}`, '')), /nothing\.\S+ is empty/);
  }
  assert.match(await failure(write('no.jsonl.xz', LINES)), /no\.jsonl\.xz \(xz\): it is no xz file/);
  assert.match(
    await failure(write('cut.jsonl.xz', bytesOf(XZ).subarray(0, 60))),
    /cut\.jsonl\.xz \(xz\): it (ends too early|is no)/,
  );
});

test('a line of many pieces is read in linear time and whole', async () => {
  const text = 'word '.repeat(4_000_000);
  const file = write('long.jsonl', `${JSON.stringify({ text })}\r\n${JSON.stringify({ text: 'end' })}`);
  const documents = await textsOf(file);
  assert.equal([documents[0]?.length, documents[1]], [text.length, 'end']);
});

sharedTest(test, 'data/corpus/docs-valid.jsonl.xz', 'reads a corpus as it is distributed', async (path) => {
  assert.is((await loadCorpus(path)).documents, 136);
});

test.run();
