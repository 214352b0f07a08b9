/** Reading files that others may have made: only regular files, and no more than a limit, known before a byte is read. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { describeSystemError, OutputError, RunError, YocoError } from '../errors.js';

/** Opening a pipe waits for its other end unless told otherwise; Windows has no such flag. */
const READ_AT_ONCE = constants.O_RDONLY | ((constants as Partial<typeof constants>).O_NONBLOCK ?? 0);

/** Whatever went wrong with a file as one line: `cannot read runs/a/model.safetensors: permission denied`. */
export function fileError(action: 'read' | 'write', path: string, cause: unknown): Error {
  if (cause instanceof YocoError || !(cause instanceof Error)) return cause as Error;
  delete (cause as NodeJS.ErrnoException).path;
  const reason = describeSystemError(cause);
  if (reason === null) return cause;
  return new (action === 'write' ? OutputError : RunError)(`cannot ${action} ${path}: ${reason}`, { cause });
}

/**
 * Opens a regular file for reading; a pipe, a device or a directory is refused before anything is read from it.
 * @throws RunError where the file is missing, unreadable or not a regular file
 */
export function openRegular(path: string): { readonly descriptor: number; readonly size: number } {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, READ_AT_ONCE);
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) throw new RunError(`cannot read ${path}: it is not a regular file`);
    return { descriptor, size: stat.size };
  } catch (error) {
    if (descriptor !== undefined) closeSync(descriptor);
    throw fileError('read', path, error);
  }
}

/**
 * All bytes of a regular file.
 * @throws RunError where it has more than `limit` bytes, cannot be read, or is not a regular file
 */
export function readBytes(path: string, limit: number): Buffer {
  const { descriptor, size } = openRegular(path);
  try {
    if (size > limit) {
      throw new RunError(`${path}: refused: it has ${size} bytes, at most ${limit} are read`);
    }
    const bytes = Buffer.alloc(size);
    let done = 0;
    while (done < size) {
      const count = readSync(descriptor, bytes, done, size - done, done);
      if (count === 0) break;
      done += count;
    }
    return bytes.subarray(0, done);
  } catch (error) {
    throw fileError('read', path, error);
  } finally {
    closeSync(descriptor);
  }
}
