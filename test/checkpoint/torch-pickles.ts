/** Torch archives built by hand, the malformed ones too. */
import { writeFileSync } from 'node:fs';
import { TorchArchive } from '../../src/checkpoint/torch-archive.js';
import { ZipWriter } from '../../src/checkpoint/zip-writer.js';
import { RunError } from '../../src/errors.js';

type Part = string | number | Uint8Array;

/** Bytes of a pickle: opcodes as characters, numbers as bytes. */
export function pickle(...parts: Part[]): Buffer {
  return Buffer.concat(
    [0x80, 2, ...parts].map((part) =>
      typeof part === 'number'
        ? Buffer.of(part)
        : typeof part === 'string'
          ? Buffer.from(part, 'latin1')
          : Buffer.from(part),
    ),
  );
}

export const text = (value: string): Buffer => {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(0x58, bytes.byteLength, 0, 0, 0), bytes]);
};

export const integer = (value: number): Buffer => {
  const bytes = Buffer.alloc(5, 'J');
  bytes.writeInt32LE(value, 1);
  return bytes;
};

const tuple = (values: readonly number[]): Part[] => ['(', ...values.map(integer), 't'];

export interface TensorParts {
  storage?: string;
  key?: string;
  elements?: number;
  offset?: number;
  shape?: readonly number[];
  strides?: readonly number[];
}

/** The opcodes that build a tensor; defaults: 4 float32 as a vector. */
export function tensorParts(parts: TensorParts = {}): Part[] {
  const { storage = 'FloatStorage', key = '0', elements = 4, offset = 0, shape = [4], strides = [1] } = parts;
  return [
    'ctorch._utils\n_rebuild_tensor_v2\n(',
    ...['(', text('storage'), `ctorch\n${storage}\n`, text(key), text('cpu'), integer(elements), 'tQ'],
    ...[integer(offset), ...tuple(shape), ...tuple(strides), 0x89, 'ccollections\nOrderedDict\n)RtR'],
  ];
}

/** A state dict with one tensor `w`. */
export const oneTensor = (parts: TensorParts = {}): Buffer =>
  pickle('}', text('w'), ...tensorParts(parts), 's.');

/** Writes an archive of a pickle and one storage of 16 bytes, or of the given entries. */
export function archive(
  path: string,
  data: Uint8Array,
  entries: Readonly<Record<string, Uint8Array>> = { 'a/data/0': new Uint8Array(16) },
): string {
  const parts: Uint8Array[] = [];
  const zip = new ZipWriter((bytes) => parts.push(bytes));
  zip.add('a/data.pkl', data);
  for (const [name, bytes] of Object.entries(entries)) zip.add(name, bytes);
  zip.finish();
  writeFileSync(path, Buffer.concat(parts));
  return path;
}

/** A text of any length. */
export const longText = (value: string): Buffer => {
  const bytes = Buffer.from(value);
  const head = Buffer.alloc(5, 'X');
  head.writeUInt32LE(bytes.byteLength, 1);
  return Buffer.concat([head, bytes]);
};

/** Reads everything; anything but success or a one-line refusal is an error. */
export function readAll(path: string): void {
  try {
    const file = TorchArchive.open(path);
    for (const name of file.names()) file.read(name);
    file.close();
  } catch (error) {
    if (!(error instanceof RunError) || error.message.includes('\n')) throw error;
  }
}
