/** Writes GGUF files of version 3. */
import { RunError } from '../../errors.js';
import { elementCount } from '../data-type.js';
import { quote, writeAtomically } from '../files.js';
import { entryPieces, type TensorEntry } from '../tensor-source.js';
import { quantizeQ8, WRITTEN_TYPES, type GgmlType } from './types.js';

const ALIGNMENT = 32;

/** A field of metadata with its type. */
export type GgufField =
  | { readonly key: string; readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly key: string; readonly type: 'bool'; readonly value: boolean }
  | { readonly key: string; readonly type: 'text'; readonly value: string }
  | { readonly key: string; readonly type: 'texts'; readonly value: readonly string[] }
  | { readonly key: string; readonly type: 'i32s' | 'f32s'; readonly value: readonly number[] };

/** A tensor whose bytes are those of `type`, or float32 where that is Q8_0. */
export interface GgufEntry {
  readonly entry: TensorEntry;
  readonly type: keyof typeof WRITTEN_TYPES;
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const f32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
const i32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
};
const text = (value: string): Buffer => {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(bytes.length), bytes]);
};

/** A list: the type of its elements, their number, and they. */
const list = <T>(type: number, values: readonly T[], encode: (value: T) => Buffer): Buffer =>
  Buffer.concat([u32(9), u32(type), u64(values.length), ...values.map(encode)]);

function encodeField(field: GgufField): Buffer {
  switch (field.type) {
    case 'u32':
      return Buffer.concat([u32(4), u32(field.value)]);
    case 'f32':
      return Buffer.concat([u32(6), f32(field.value)]);
    case 'bool':
      return Buffer.concat([u32(7), Buffer.from([field.value ? 1 : 0])]);
    case 'text':
      return Buffer.concat([u32(8), text(field.value)]);
    case 'texts':
      return list(8, field.value, text);
    case 'i32s':
      return list(5, field.value, i32);
    case 'f32s':
      return list(6, field.value, f32);
  }
}

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

function bytesOf({ entry, type }: GgufEntry): number {
  const { elements, bytes }: GgmlType = WRITTEN_TYPES[type];
  return ((elementCount(entry.shape) ?? 0) / elements) * bytes;
}

function header(fields: readonly GgufField[], entries: readonly GgufEntry[]): Buffer {
  let offset = 0;
  const tensors = entries.map((item) => {
    const { name, shape } = item.entry;
    const listed = [
      ...[text(name), u32(shape.length), ...[...shape].reverse().map(u64)],
      ...[u32(WRITTEN_TYPES[item.type].id), u64(offset)],
    ];
    offset += aligned(bytesOf(item));
    return Buffer.concat(listed);
  });
  const bytes = Buffer.concat([
    ...[Buffer.from('GGUF'), u32(3), u64(entries.length), u64(fields.length)],
    ...fields.map((field) => Buffer.concat([text(field.key), encodeField(field)])),
    ...tensors,
  ]);
  return Buffer.concat([bytes, Buffer.alloc(aligned(bytes.length) - bytes.length)]);
}

/** The bytes to store: float32 pieces become blocks of Q8_0. Each must be used before the next is taken. */
async function* storedPieces({ entry, type }: GgufEntry): AsyncGenerator<Uint8Array> {
  if (type !== 'Q8_0') {
    yield* entryPieces(entry);
    return;
  }
  let out = new Uint8Array();
  for await (const piece of entryPieces(entry)) {
    const values = new Float32Array(piece.buffer, piece.byteOffset, piece.byteLength / 4);
    const size = (values.length / 32) * 34;
    if (out.length < size) out = new Uint8Array(size);
    const blocks = out.subarray(0, size);
    if (!quantizeQ8(values, blocks)) {
      throw new RunError(
        `tensor ${quote(entry.name)} has values that Q8_0 cannot hold: infinite, no number, or beyond 8 million`,
      );
    }
    yield blocks;
  }
}

/** Writes a file of tensors, a piece at a time. It appears under its name when it is complete. */
export async function writeGguf(
  path: string,
  fields: readonly GgufField[],
  entries: readonly GgufEntry[],
): Promise<void> {
  await writeAtomically(path, async (write) => {
    write(header(fields, entries));
    for (const item of entries) {
      for await (const piece of storedPieces(item)) write(piece);
      write(new Uint8Array(aligned(bytesOf(item)) - bytesOf(item)));
    }
  });
}
