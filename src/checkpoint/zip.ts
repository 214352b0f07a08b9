/**
 * Zip archives whose entries are stored without compression, as torch.save writes them, ZIP64 included.
 * Compressed entries are refused: torch never writes any, and without them an archive cannot hold more than its size.
 * Specification: APPNOTE.TXT 6.3.10, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */
import { RunError } from '../errors.js';
import { quote, RandomAccessFile } from './files.js';

export const LOCAL_HEADER = 0x04034b50;
export const CENTRAL_HEADER = 0x02014b50;
export const END_RECORD = 0x06054b50;
export const END_RECORD_64 = 0x06064b50;
export const END_LOCATOR_64 = 0x07064b50;
export const ABSENT_32 = 0xffffffff;
const MAX_DIRECTORY_BYTES = 256 * 2 ** 20;

interface ZipEntry {
  readonly name: string;
  readonly size: number;
  readonly headerOffset: number;
}

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A 64-bit field as a number; positions beyond 2^53 exist in no file. */
function uint64(data: DataView, offset: number): number {
  const value = data.getBigUint64(offset, true);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Infinity : Number(value);
}

export class ZipArchive {
  /** Where the data of the entries read so far begins. */
  private readonly starts = new Map<string, number>();

  private constructor(
    private readonly file: RandomAccessFile,
    private readonly entries: ReadonlyMap<string, ZipEntry>,
  ) {}

  /** Throws `RunError` where the file is no zip archive, damaged, or holds compressed or overlapping entries. */
  static open(path: string): ZipArchive {
    const file = RandomAccessFile.open(path);
    try {
      const directory = locateDirectory(file);
      const entries = parseDirectory(file.path, file.read(directory.offset, directory.size), directory.count);
      checkPlacement(file.path, entries, directory.offset);
      return new ZipArchive(file, entries);
    } catch (error) {
      file.close();
      throw error instanceof RangeError ? damaged(path, 'a record is cut short') : error;
    }
  }

  get path(): string {
    return this.file.path;
  }

  names(): readonly string[] {
    return [...this.entries.keys()];
  }

  /** Bytes of an entry, `undefined` where there is none of that name. */
  size(name: string): number | undefined {
    return this.entries.get(name)?.size;
  }

  /** `length` bytes of an entry from `offset`. */
  read(name: string, offset = 0, length = (this.size(name) ?? 0) - offset): Uint8Array {
    return this.file.read(this.position(name, offset, length), length);
  }

  /** Fills `target` with bytes of an entry from `offset` on. */
  readInto(name: string, offset: number, target: Uint8Array): void {
    this.file.readInto(this.position(name, offset, target.byteLength), target);
  }

  close(): void {
    this.file.close();
  }

  /** Where `length` bytes of an entry from `offset` on are in the file. */
  private position(name: string, offset: number, length: number): number {
    const entry = this.entries.get(name);
    if (entry === undefined) throw new RunError(`${this.path}: the archive has no entry ${quote(name)}`);
    if (offset < 0 || length < 0 || offset + length > entry.size) {
      throw damaged(this.path, `entry ${quote(name)} is shorter than its use`);
    }
    const start = this.starts.get(name) ?? this.dataOffset(entry);
    this.starts.set(name, start);
    return start + offset;
  }

  /** The local header repeats the name and has padding of its own, which only it knows. */
  private dataOffset({ name, size, headerOffset }: ZipEntry): number {
    const header = view(this.file.read(headerOffset, 30));
    const [nameLength, extraLength] = [header.getUint16(26, true), header.getUint16(28, true)];
    const offset = headerOffset + 30 + nameLength + extraLength;
    if (header.getUint32(0, true) !== LOCAL_HEADER || offset + size > this.file.size) {
      throw damaged(this.path, `entry ${quote(name)} has no data where the directory says`);
    }
    if (Buffer.from(this.file.read(headerOffset + 30, nameLength)).toString() !== name) {
      throw damaged(this.path, `entry ${quote(name)} has another name in its own header`);
    }
    return offset;
  }
}

function damaged(path: string, problem: string): RunError {
  return new RunError(`${path}: damaged or truncated zip archive: ${problem}`);
}

interface Directory {
  readonly offset: number;
  readonly size: number;
  readonly count: number;
}

/** Finds the central directory through the end record, which an archive comment of up to 64 KiB may follow. */
function locateDirectory(file: RandomAccessFile): Directory {
  const { path, size: fileSize } = file;
  const tailLength = Math.min(fileSize, 22 + 65535);
  const tail = view(file.read(fileSize - tailLength, tailLength));
  let at = tailLength - 22;
  while (at >= 0 && tail.getUint32(at, true) !== END_RECORD) at--;
  if (at < 0) throw damaged(path, 'it has no end record');
  const end = fileSize - tailLength + at;
  let directory = {
    count: tail.getUint16(at + 10, true),
    size: tail.getUint32(at + 12, true),
    offset: tail.getUint32(at + 16, true),
  };
  if (at >= 20 && tail.getUint32(at - 20, true) === END_LOCATOR_64) {
    const position = uint64(tail, at - 20 + 8);
    if (position + 56 > end) throw damaged(path, 'its ZIP64 end record lies outside the file');
    const record = view(file.read(position, 56));
    if (record.getUint32(0, true) !== END_RECORD_64) throw damaged(path, 'it has no ZIP64 end record');
    directory = { count: uint64(record, 32), size: uint64(record, 40), offset: uint64(record, 48) };
  }
  if (directory.offset + directory.size > end || directory.size > MAX_DIRECTORY_BYTES) {
    throw damaged(path, 'its directory lies outside the file');
  }
  return directory;
}

/** Sizes and position from the ZIP64 extra field, for those that do not fit in 32 bits. */
function extendedFields(
  extra: DataView,
  fields: { stored: number; size: number; offset: number },
): { stored: number; size: number; offset: number } {
  for (let at = 0; at + 4 <= extra.byteLength; at += 4 + extra.getUint16(at + 2, true)) {
    if (extra.getUint16(at, true) !== 1) continue;
    let position = at + 4;
    const take = (value: number): number => {
      if (value !== ABSENT_32) return value;
      position += 8;
      return uint64(extra, position - 8);
    };
    const size = take(fields.size);
    const stored = take(fields.stored);
    return { size, stored, offset: take(fields.offset) };
  }
  return fields;
}

function parseDirectory(path: string, bytes: Uint8Array, count: number): Map<string, ZipEntry> {
  const data = view(bytes);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let index = 0; index < count; index++) {
    if (data.getUint32(at, true) !== CENTRAL_HEADER) throw damaged(path, 'its directory is not one');
    const [flags, method] = [data.getUint16(at + 8, true), data.getUint16(at + 10, true)];
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((o) =>
      data.getUint16(at + o, true),
    ) as [number, number, number];
    const name = Buffer.from(bytes.subarray(at + 46, at + 46 + nameLength)).toString();
    const extra = bytes.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength);
    const fields = extendedFields(view(extra), {
      stored: data.getUint32(at + 20, true),
      size: data.getUint32(at + 24, true),
      offset: data.getUint32(at + 42, true),
    });
    if (method !== 0 || (flags & 1) !== 0 || fields.stored !== fields.size) {
      throw new RunError(
        `${path}: refused: entry ${quote(name)} is compressed or encrypted, which torch.save never does`,
      );
    }
    if (entries.has(name)) throw damaged(path, `two entries have the name ${quote(name)}`);
    entries.set(name, { name, size: fields.size, headerOffset: fields.offset });
    at += 46 + nameLength + extraLength + commentLength;
  }
  if (at !== bytes.byteLength) throw damaged(path, 'its directory has bytes that belong to no entry');
  return entries;
}

/** Entries may not share bytes: overlapping ones are how a small archive pretends to hold a large one. */
function checkPlacement(path: string, entries: ReadonlyMap<string, ZipEntry>, directoryOffset: number): void {
  let covered = 0;
  for (const entry of [...entries.values()].sort((a, b) => a.headerOffset - b.headerOffset)) {
    if (entry.headerOffset < covered) throw damaged(path, `entry ${quote(entry.name)} overlaps another`);
    covered = entry.headerOffset + 30 + Buffer.byteLength(entry.name) + entry.size;
    if (!(covered <= directoryOffset))
      throw damaged(path, `entry ${quote(entry.name)} lies outside the file`);
  }
}
