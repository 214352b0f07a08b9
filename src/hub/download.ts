/** One file from the hub to the disk: resumed where it broke off, and checked before it takes its name. */
import { createHash, type Hash } from 'node:crypto';
import {
  createReadStream,
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { RunError } from '../errors.js';
import { fileError } from '../files/read.js';
import { writeWhole } from '../files/write.js';
import { ATTEMPTS, pauseBefore, request, unreachable, type Purpose } from './http.js';

/** A file as a repository lists it. */
export interface RemoteFile {
  /** Relative to the repository, with `/`. As the hub says it: not checked. */
  readonly path: string;
  readonly size: number;
  /** SHA-256 of the bytes where they are in large-file storage, else git's SHA-1 of the blob. */
  readonly hash: { readonly kind: 'sha256' | 'git-sha1'; readonly hex: string };
}

export interface Download {
  readonly purpose: Purpose;
  readonly url: string;
  readonly file: RemoteFile;
  /** Where the file is put. Beside it lies what is there of it so far. */
  readonly target: string;
  /** Called with the bytes of the file that are there. */
  readonly onBytes: (done: number) => void;
}

/** Git hashes a blob with its size before it. */
function newHash({ hash, size }: RemoteFile): Hash {
  return hash.kind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** A name that no other program uses: Python's library does not check what it resumes. */
const partialOf = (target: string): string => `${target}.yoco-partial`;

/** @throws RunError where the hub cannot be reached, the disk is full, or the content is not what the hub lists */
export async function download({ purpose, url, file, target, onBytes }: Download): Promise<void> {
  const partial = partialOf(target);
  let hash = newHash(file);
  let done = await hashExisting(partial, file, hash);
  for (let failures = 0; done < file.size || !existsSync(partial);) {
    onBytes(done);
    const before = done;
    try {
      const response = await ask(purpose, url, done);
      if (response.status !== 206 && done > 0) [hash, done] = [newHash(file), 0];
      await receive(response, { path: partial, from: done, limit: file.size }, (bytes) => {
        hash.update(bytes);
        onBytes((done += bytes.length));
      });
      if (done < file.size) throw new TypeError('the connection ended early');
    } catch (error) {
      // What `fetch` throws where a connection breaks; an answer that does not come has been asked for again already.
      if (!(error instanceof TypeError)) throw fileError('write', target, error);
      failures = done > before ? 1 : failures + 1;
      if (failures >= ATTEMPTS) throw unreachable(purpose, url, error);
      await pauseBefore(failures);
    }
  }
  accept(purpose, file, partial, hash.digest('hex'));
  renameSync(partial, target);
}

/** Reads what an earlier download has left. @returns its size; 0 where it is of no use */
async function hashExisting(path: string, file: RemoteFile, hash: Hash): Promise<number> {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size === 0) return 0;
  if (size > file.size) {
    rmSync(path);
    return 0;
  }
  for await (const bytes of createReadStream(path)) hash.update(bytes as Buffer);
  return size;
}

async function ask(purpose: Purpose, url: string, from: number): Promise<Response> {
  // Compressed on the way, the bytes could not be counted.
  const headers = { 'Accept-Encoding': 'identity', ...(from > 0 ? { Range: `bytes=${from}-` } : {}) };
  const response = await request(purpose, url, { headers });
  if (response.status !== 206) return response;
  const start = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
  if (Number(start) !== from) {
    await response.body?.cancel();
    throw new RunError(
      `${purpose.about}: the hub sent another part of ${url} than the one from byte ${from}`,
    );
  }
  return response;
}

interface Place {
  readonly path: string;
  readonly from: number;
  readonly limit: number;
}

/** Appends a body to a file. @throws RunError where it is longer than the file is */
async function receive(
  { body }: Response,
  { path, from, limit }: Place,
  onBytes: (bytes: Uint8Array) => void,
): Promise<void> {
  const descriptor = openSync(path, from > 0 ? 'a' : 'w');
  try {
    let at = from;
    for await (const bytes of body ?? []) {
      at += (bytes as Uint8Array).length;
      if (at > limit) throw new RunError(`${path}: the hub sends more than the ${limit} bytes it lists`);
      writeWhole(descriptor, bytes as Uint8Array);
      onBytes(bytes as Uint8Array);
    }
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function accept({ about }: Purpose, { path, hash }: RemoteFile, partial: string, found: string): void {
  if (found === hash.hex) return;
  rmSync(partial, { force: true });
  throw new RunError(
    `${about}: ${JSON.stringify(path)} is damaged: its ${hash.kind} is ${found}, the hub lists ${hash.hex}; it was removed, run the command again`,
  );
}
