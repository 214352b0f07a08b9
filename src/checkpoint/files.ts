import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { RunError } from '../errors.js';
import { readJsonValue } from '../files/json.js';
import { fileError, openRegular } from '../files/read.js';
import { syncDirectory } from '../files/staging.js';
import { makeDirectory, temporaryBeside, writeFileAtomic } from '../files/write.js';

export { fileError } from '../files/read.js';

/** One system call moves at most 2 GiB; less keeps the transfer interruptible. */
const MAX_TRANSFER = 1 << 30;

/** A name from a file as it may be shown in an error: quoted, control characters escaped, not too long. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 117)}...` : name);
}

/** A regular file read at given positions. */
export class RandomAccessFile {
  private constructor(
    readonly path: string,
    readonly size: number,
    private descriptor: number | undefined,
  ) {}

  /** Throws `RunError` where the file is missing, unreadable or not a regular file. */
  static open(path: string): RandomAccessFile {
    const { descriptor, size } = openRegular(path);
    return new RandomAccessFile(path, size, descriptor);
  }

  /** `length` bytes from `position`, in a fresh buffer. Throws `RunError` where the file ends before. */
  read(position: number, length: number): Uint8Array {
    this.checkRange(position, length);
    const bytes = new Uint8Array(length);
    this.readInto(position, bytes);
    return bytes;
  }

  /** Fills `target` from `position` on. Throws `RunError` where the file ends before. */
  readInto(position: number, target: Uint8Array): void {
    this.checkRange(position, target.byteLength);
    for (let done = 0; done < target.byteLength;) {
      const count = this.transfer(position + done, target.subarray(done, done + MAX_TRANSFER));
      if (count === 0) throw new RunError(`${this.path}: truncated while it was being read`);
      done += count;
    }
  }

  private checkRange(position: number, length: number): void {
    if (position < 0 || length < 0 || position + length > this.size) {
      throw new RunError(`${this.path}: truncated: ends at byte ${this.size} of ${position + length}`);
    }
  }

  private transfer(position: number, target: Uint8Array): number {
    if (this.descriptor === undefined) throw new RunError(`cannot read ${this.path}: it has been closed`);
    try {
      return readSync(this.descriptor, target, 0, target.byteLength, position);
    } catch (error) {
      throw fileError('read', this.path, error);
    }
  }

  close(): void {
    if (this.descriptor !== undefined) closeSync(this.descriptor);
    this.descriptor = undefined;
  }
}

/** Puts bytes into the file being written: at its end, or over those at `position`. All of them or an exception. */
export type Write = (bytes: Uint8Array, position?: number) => void;

function writeFully(descriptor: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.byteLength;) {
    const count = Math.min(bytes.byteLength - done, MAX_TRANSFER);
    done += writeSync(descriptor, bytes, done, count, position + done);
  }
}

/**
 * Writes a file so that at any moment, a crash included, `path` is either what it was or complete: the content goes
 * to a temporary file beside it, is flushed to the disk and renamed. Directories are made as needed. On failure
 * (`RunError`: disk full, no permission) nothing is left there.
 */
export async function writeAtomically(
  path: string,
  produce: (write: Write) => void | Promise<void>,
): Promise<void> {
  makeDirectory(dirname(path));
  let temporary = '';
  let descriptor: number | undefined;
  try {
    temporary = temporaryBeside(path);
    descriptor = openSync(temporary, 'wx');
    const open = descriptor;
    let end = 0;
    await produce((bytes, position = end) => {
      writeFully(open, bytes, position);
      end = Math.max(end, position + bytes.byteLength);
    });
    fsyncSync(descriptor);
    closeSync(descriptor);
    descriptor = undefined;
    renameSync(temporary, path);
    syncDirectory(dirname(path));
  } catch (error) {
    if (descriptor !== undefined) closeSync(descriptor);
    if (temporary !== '') rmSync(temporary, { force: true });
    throw fileError('write', path, error);
  }
}

/** Writes `value` as indented JSON, atomically. */
export function writeJson(path: string, value: unknown): void {
  writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);
}

/**
 * A JSON object from a file.
 * @throws RunError where it is missing, longer than `limit` bytes, malformed or not an object
 */
export function readJson(path: string, limit?: number): Record<string, unknown> {
  const value = readJsonValue(path, limit);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new RunError(`${path}: expected a JSON object`);
  }
  return value as Record<string, unknown>;
}
