import zlib from 'node:zlib';
import type { Write } from './files.js';
import { ABSENT_32, CENTRAL_HEADER, END_LOCATOR_64, END_RECORD, END_RECORD_64, LOCAL_HEADER } from './zip.js';

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** zlib's own, forty times faster, is in Node from 20.15 on. */
const { crc32: native } = zlib as { crc32?: (bytes: Uint8Array, before?: number) => number };

/** CRC-32 of ISO 3309, as zip entries carry it, of `bytes` after others whose CRC is `before`. */
export function crc32(bytes: Uint8Array, before = 0): number {
  return native === undefined ? plainCrc32(bytes, before) : native(bytes, before);
}

export function plainCrc32(bytes: Uint8Array, before = 0): number {
  let crc = ~before;
  for (const byte of bytes) crc = (CRC_TABLE[(crc ^ byte) & 255] ?? 0) ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Where torch aligns the data of every entry, so that it can be mapped. */
const ALIGNMENT = 64;

/** Where the checksum lies in the fields that local and central headers have in common. */
const CRC_FIELD = 10;

interface Entry {
  readonly fields: Buffer;
  readonly nameBytes: Buffer;
  readonly size: number;
  /** Of its local header. */
  readonly offset: number;
}

/** Writes a stored-only archive, entry by entry. */
export class ZipWriter {
  private position = 0;
  private readonly central: Buffer[] = [];

  constructor(private readonly write: Write) {}

  /** An entry whose bytes are at hand. */
  add(name: string, bytes: Uint8Array): void {
    this.central.push(centralRecord(this.begin(name, bytes.byteLength, crc32(bytes))));
    this.emit(bytes);
  }

  /** An entry of `size` bytes that come in pieces. The checksum, which stands before them, is filled in afterwards. */
  async addPieces(name: string, size: number, pieces: AsyncIterable<Uint8Array>): Promise<void> {
    const entry = this.begin(name, size, 0);
    let crc = 0;
    for await (const piece of pieces) {
      crc = crc32(piece, crc);
      this.emit(piece);
    }
    entry.fields.writeUInt32LE(crc, CRC_FIELD);
    this.write(uint32(crc), entry.offset + 4 + CRC_FIELD);
    this.central.push(centralRecord(entry));
  }

  private begin(name: string, size: number, crc: number): Entry {
    const nameBytes = Buffer.from(name);
    const offset = this.position;
    const extra = size >= ABSENT_32 ? sizesExtra(size) : Buffer.alloc(0);
    const unpadded = offset + 30 + nameBytes.byteLength + extra.byteLength + 4;
    const padding = paddingExtra((ALIGNMENT - (unpadded % ALIGNMENT)) % ALIGNMENT);
    const fields = commonFields(crc, size, nameBytes.byteLength);
    const extraLength = Buffer.alloc(2);
    extraLength.writeUInt16LE(extra.byteLength + padding.byteLength);
    this.emit(Buffer.concat([uint32(LOCAL_HEADER), fields, extraLength, nameBytes, extra, padding]));
    return { fields, nameBytes, size, offset };
  }

  finish(): void {
    const directory = Buffer.concat(this.central);
    const start = this.position;
    const count = this.central.length;
    const record = Buffer.alloc(56);
    record.writeUInt32LE(END_RECORD_64, 0);
    record.writeBigUInt64LE(44n, 4);
    record.writeUInt16LE(45, 12);
    record.writeUInt16LE(45, 14);
    record.writeBigUInt64LE(BigInt(count), 24);
    record.writeBigUInt64LE(BigInt(count), 32);
    record.writeBigUInt64LE(BigInt(directory.byteLength), 40);
    record.writeBigUInt64LE(BigInt(start), 48);
    const locator = Buffer.alloc(20);
    locator.writeUInt32LE(END_LOCATOR_64, 0);
    locator.writeBigUInt64LE(BigInt(start + directory.byteLength), 8);
    locator.writeUInt32LE(1, 16);
    const end = Buffer.alloc(22);
    end.writeUInt32LE(END_RECORD, 0);
    end.writeUInt16LE(Math.min(count, 0xffff), 8);
    end.writeUInt16LE(Math.min(count, 0xffff), 10);
    end.writeUInt32LE(Math.min(directory.byteLength, ABSENT_32), 12);
    end.writeUInt32LE(Math.min(start, ABSENT_32), 16);
    this.emit(Buffer.concat([directory, record, locator, end]));
  }

  private emit(bytes: Uint8Array): void {
    this.write(bytes);
    this.position += bytes.byteLength;
  }
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** What local and central headers have in common: version needed up to the length of the name. */
function commonFields(crc: number, size: number, nameLength: number): Buffer {
  const fields = Buffer.alloc(24);
  fields.writeUInt16LE(45, 0);
  fields.writeUInt16LE(0x0800, 2); // names are UTF-8
  // Method, time and date stay 0, so that the same tensors give the same file.
  fields.writeUInt32LE(crc, CRC_FIELD);
  fields.writeUInt32LE(Math.min(size, ABSENT_32), 14);
  fields.writeUInt32LE(Math.min(size, ABSENT_32), 18);
  fields.writeUInt16LE(nameLength, 22);
  return fields;
}

function sizesExtra(size: number): Buffer {
  const extra = Buffer.alloc(20);
  extra.writeUInt16LE(1, 0);
  extra.writeUInt16LE(16, 2);
  extra.writeBigUInt64LE(BigInt(size), 4);
  extra.writeBigUInt64LE(BigInt(size), 12);
  return extra;
}

/** The extra field of id "FB" that torch pads with. */
function paddingExtra(length: number): Buffer {
  const extra = Buffer.alloc(4 + length, 'Z');
  extra.write('FB', 0);
  extra.writeUInt16LE(length, 2);
  return extra;
}

function centralRecord({ fields, nameBytes, size, offset }: Entry): Buffer {
  const values: number[] = [];
  if (size >= ABSENT_32) values.push(size, size);
  if (offset >= ABSENT_32) values.push(offset);
  const extra = Buffer.alloc(values.length === 0 ? 0 : 4 + 8 * values.length);
  if (values.length > 0) {
    extra.writeUInt16LE(1, 0);
    extra.writeUInt16LE(8 * values.length, 2);
    values.forEach((value, index) => extra.writeBigUInt64LE(BigInt(value), 4 + 8 * index));
  }
  const rest = Buffer.alloc(16);
  rest.writeUInt16LE(extra.byteLength, 0);
  rest.writeUInt32LE(Math.min(offset, ABSENT_32), 12);
  const madeBy = Buffer.alloc(2);
  madeBy.writeUInt16LE(45);
  return Buffer.concat([uint32(CENTRAL_HEADER), madeBy, fields, rest, nameBytes, extra]);
}
