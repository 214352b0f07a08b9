/**
 * Compressed sources: each is unpacked once into a temporary file, as a stream, so that a corpus may be larger than
 * memory and is then read as if it had been unpacked all along. The files go away with the process.
 */
import { createReadStream, createWriteStream, openSync, rmSync, closeSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import type { TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import type * as Xz from 'xz-decompress';
import { RunError } from '../errors.js';
import { fileSize } from './files.js';
import { temporaryDirectory } from '../files/temporary.js';
import type { Packing, Source } from './sources.js';

/** The same sources without compression. @throws RunError naming a file that is damaged or does not fit the disk */
export async function unpackSources(sources: readonly Source[]): Promise<Source[]> {
  const unpacked: Source[] = [];
  for (const source of sources) {
    const { packing } = source;
    if (packing === null) {
      unpacked.push(source);
      continue;
    }
    const files: string[] = [];
    for (const file of source.files) files.push(await unpack(file, packing));
    unpacked.push({ ...source, packing: null, files, shownAs: source.files });
  }
  return unpacked;
}

let directory: string | null = null;
let count = 0;

function temporaryFile(): string {
  directory ??= temporaryDirectory('yoco-corpus');
  return join(directory, String(count++));
}

async function unpack(file: string, packing: Packing): Promise<string> {
  fileSize(file);
  const target = temporaryFile();
  try {
    if (packing === 'parquet') await unpackParquet(file, target);
    else if (packing === 'json') await unpackJson(file, target);
    else await unpackStream(file, packing, target);
    return target;
  } catch (error) {
    rmSync(target, { force: true });
    if (error instanceof RunError) throw error;
    const reason = reasonOf(error);
    throw new RunError(`cannot unpack ${file} (${packing}): ${reason}`, { cause: error });
  }
}

/** What the error codes of the xz library mean. */
const XZ_CODES: Readonly<Record<string, string>> = {
  5: 'it is no xz file',
  6: 'it was packed with options that are not supported',
  7: 'its data is damaged',
  8: 'it ends too early',
};

function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const [, code = ''] = /^get_next_output failed with error code (\d+)$/.exec(message) ?? [];
  return XZ_CODES[code] ?? message;
}

/** The objects of a JSON list as lines; a file that is no list has lines already. */
async function unpackJson(file: string, target: string): Promise<void> {
  const { listElements } = await import('./json-list.js');
  await pipeline(createReadStream(file, 'utf8'), listElements, createWriteStream(target));
}

async function unpackStream(file: string, packing: 'gzip' | 'xz' | 'zstd', target: string): Promise<void> {
  const packed = createReadStream(file);
  const written = createWriteStream(target);
  if (packing === 'gzip') await pipeline(packed, createGunzip(), written);
  else if (packing === 'zstd') await pipeline(packed, await zstdDecoder(), written);
  else await pipeline(xzDecoder(packed), written);
}

/** The package is a CommonJS bundle, whose names loaders give differently to `import`. */
function xzDecoder(packed: Readable): Readable {
  const xz = createRequire(import.meta.url)('xz-decompress') as typeof Xz;
  const stream = new xz.XzReadableStream(Readable.toWeb(packed) as ReadableStream<Uint8Array>);
  return Readable.fromWeb(stream as Parameters<typeof Readable.fromWeb>[0]);
}

async function zstdDecoder(): Promise<Transform> {
  const { Decompress } = await import('fzstd');
  let ready: Uint8Array[] = [];
  const decoder = new Decompress((chunk) => {
    ready.push(chunk);
  });
  const feed = (chunk: Uint8Array, isLast: boolean, stream: Transform, done: TransformCallback): void => {
    try {
      decoder.push(chunk, isLast);
      for (const part of ready) stream.push(part);
      ready = [];
      done();
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
    }
  };
  return new Transform({
    transform(chunk: Uint8Array, _encoding, done) {
      feed(chunk, false, this, done);
    },
    flush(done) {
      feed(new Uint8Array(0), true, this, done);
    },
  });
}

/** The column `text` of a Parquet file as JSON lines. */
async function unpackParquet(file: string, target: string): Promise<void> {
  const { parquetRows } = await import('./parquet.js');
  const descriptor = openSync(target, 'w');
  try {
    let number = 0;
    for await (const { text } of parquetRows(file, ['text'])) {
      number += 1;
      if (typeof text !== 'string') throw new RunError(`${file}: row ${number} has no text`);
      writeSync(descriptor, `${JSON.stringify({ text })}\n`);
    }
  } finally {
    closeSync(descriptor);
  }
}
