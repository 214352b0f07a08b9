/** Reading text files piece by piece, with errors that name the file and the place. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { TextDecoder } from 'node:util';
import { RunError, UsageError } from '../errors.js';

const PIECE_BYTES = 1 << 20;

/** Checks that `path` is a file (else `UsageError`) with something in it (else `RunError`) and returns its size in bytes. */
export function fileSize(path: string, shownAs = path): number {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) throw new UsageError(`no such file: ${shownAs}`);
  if (!stats.isFile()) throw new UsageError(`${shownAs} is not a file`);
  if (stats.size === 0) throw new RunError(`${shownAs} is empty`);
  return stats.size;
}

/** The bytes of a file, a megabyte at a time. */
export function* readBytes(path: string, shownAs = path): Generator<Uint8Array> {
  fileSize(path, shownAs);
  const descriptor = openSync(path, 'r');
  try {
    for (;;) {
      const buffer = Buffer.allocUnsafe(PIECE_BYTES);
      const count = readSync(descriptor, buffer, 0, PIECE_BYTES, null);
      if (count === 0) return;
      yield buffer.subarray(0, count);
    }
  } finally {
    closeSync(descriptor);
  }
}

/**
 * The text of a UTF-8 file, about a megabyte at a time, without its byte-order mark.
 * @param shownAs what errors call the file
 * @throws UsageError for a missing file, RunError for an empty or binary one
 */
export function* readText(
  path: string,
  onBytes?: (bytes: Uint8Array) => void,
  shownAs = path,
): Generator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let position = 0;
  for (const bytes of readBytes(path, shownAs)) {
    if (position === 0) refuseUtf16(bytes, shownAs);
    onBytes?.(bytes);
    const zero = bytes.indexOf(0);
    if (zero >= 0) throw new RunError(`${shownAs} is not a text file: byte ${position + zero} is zero`);
    yield decodeBytes(decoder, bytes, shownAs, position);
    position += bytes.length;
  }
  yield decodeBytes(decoder, null, shownAs, position);
}

/** What spreadsheets call Unicode text begins so. */
function refuseUtf16([first, second]: Uint8Array, path: string): void {
  if (!((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))) return;
  throw new RunError(`${path} is UTF-16, but UTF-8 is read: convert it, as with 'iconv -f UTF-16 -t UTF-8'`);
}

function decodeBytes(decoder: TextDecoder, bytes: Uint8Array | null, path: string, position: number): string {
  try {
    return bytes === null ? decoder.decode() : decoder.decode(bytes, { stream: true });
  } catch (error) {
    const where = bytes === null ? 'at its end' : `between bytes ${position} and ${position + bytes.length}`;
    throw new RunError(`${path} is not a text file: invalid UTF-8 ${where}`, { cause: error });
  }
}

export interface Line {
  /** Counted from 1. */
  readonly number: number;
  readonly text: string;
}

/** A longer line is no document: the longest novels have ten million characters. */
const LONGEST_LINE = 2 ** 26;

/**
 * The lines of a UTF-8 file, without line ends.
 * @param shownAs what errors call the file
 * @throws RunError as `readText`, and for a line of more than 67 million characters
 */
function* readLines(path: string, onBytes?: (bytes: Uint8Array) => void, shownAs = path): Generator<Line> {
  let number = 0;
  // A line may come in many pieces, which are joined once.
  let parts: string[] = [];
  let length = 0;
  for (const piece of readText(path, onBytes, shownAs)) {
    let from = 0;
    for (let at = piece.indexOf('\n'); at >= 0; at = piece.indexOf('\n', from)) {
      parts.push(piece.slice(from, at));
      yield { number: ++number, text: parts.join('').replace(/\r$/, '') };
      [parts, length, from] = [[], 0, at + 1];
    }
    parts.push(piece.slice(from));
    length += piece.length - from;
    if (length > LONGEST_LINE) {
      throw new RunError(`${shownAs}:${number + 1}: the line has more than ${LONGEST_LINE} characters`);
    }
  }
  if (length > 0) yield { number: number + 1, text: parts.join('') };
}

/**
 * The objects of a JSON Lines file; blank lines are skipped.
 * @param parse turns an object into what it should be, or throws an Error that says what is wrong with it
 * @throws RunError `FILE:LINE: …` for a line that is no JSON object or that `parse` refuses
 */
export function* readJsonLines<T>(
  path: string,
  parse: (value: Readonly<Record<string, unknown>>) => T,
  onBytes?: (bytes: Uint8Array) => void,
  shownAs = path,
): Generator<T> {
  for (const { number, text } of readLines(path, onBytes, shownAs)) {
    if (text.trim() === '') continue;
    try {
      yield parse(jsonObject(text));
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      throw new RunError(`${shownAs}:${number}: ${error.message}`, { cause: error });
    }
  }
}

function jsonObject(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('not valid JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error('expected a JSON object');
  }
  return value as Readonly<Record<string, unknown>>;
}

/** The text of a stream to its end. @throws RunError when it is not UTF-8 */
export async function readStream(stream: AsyncIterable<string | Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(typeof part === 'string' ? Buffer.from(part) : part);
  return decodeBytes(new TextDecoder('utf-8', { fatal: true }), Buffer.concat(parts), 'stdin', 0);
}
