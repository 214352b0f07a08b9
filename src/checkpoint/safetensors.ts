/**
 * The safetensors format: 8 bytes little-endian header length N, N bytes of JSON
 * (`{name: {dtype, shape, data_offsets: [begin, end]}, __metadata__?}`), then the data.
 * Specification: https://github.com/huggingface/safetensors#format
 */
import { RunError } from '../errors.js';
import { refusePointer } from './foreign.js';
import { bytesPerElement } from './data-type.js';
import { quote, RandomAccessFile, writeAtomically } from './files.js';
import { MAX_HEADER_BYTES, parseHeader, serialiseHeader } from './safetensors-header.js';
import type { SafetensorsHeader, StoredTensor } from './safetensors-header.js';
import { entryPieces, storedBytes, TensorSource } from './tensor-source.js';
import type { TensorEntry, TensorInfo } from './tensor-source.js';

export type { DataType, TensorValues } from './data-type.js';
export { TensorSource } from './tensor-source.js';
export type { TensorEntry, TensorInfo } from './tensor-source.js';

function readHeader(file: RandomAccessFile): { header: SafetensorsHeader; dataStart: number } {
  const { path, size } = file;
  refusePointer(file);
  if (size < 8) throw new RunError(`${path}: not a safetensors file: ${size} bytes, too short for a header`);
  const prefix = file.read(0, 8);
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES) {
    throw new RunError(
      `${path}: not a safetensors file: header length ${length} is beyond ${MAX_HEADER_BYTES}`,
    );
  }
  const dataStart = 8 + length;
  if (dataStart > size) {
    throw new RunError(`${path}: truncated: the header ends at byte ${dataStart}, the file has ${size}`);
  }
  return { header: parseHeader(path, file.read(8, length), size - dataStart), dataStart };
}

/** One safetensors file, opened and validated; tensors are read from the disk when they are asked for. */
export class SafetensorsFile extends TensorSource {
  private constructor(
    private readonly file: RandomAccessFile,
    private readonly header: SafetensorsHeader,
    private readonly dataStart: number,
  ) {
    super();
  }

  /** Throws `RunError` with one line naming file and tensor where the file is not entirely well-formed. */
  static open(path: string): SafetensorsFile {
    const file = RandomAccessFile.open(path);
    try {
      const { header, dataStart } = readHeader(file);
      return new SafetensorsFile(file, header, dataStart);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  get path(): string {
    return this.file.path;
  }

  get metadata(): ReadonlyMap<string, string> {
    return this.header.metadata;
  }

  names(): readonly string[] {
    return [...this.header.tensors.keys()];
  }

  has(name: string): boolean {
    return this.header.tensors.has(name);
  }

  info(name: string): TensorInfo {
    const { dtype, shape } = this.stored(name);
    return { dtype, shape };
  }

  readInto(name: string, offset: number, target: Uint8Array): void {
    const { begin, end } = this.stored(name);
    if (begin + offset + target.byteLength > end) {
      throw new RunError(`${this.path}: tensor ${quote(name)} ends at byte ${end - begin}`);
    }
    this.file.readInto(this.dataStart + begin + offset, target);
  }

  close(): void {
    this.file.close();
  }

  private stored(name: string): StoredTensor {
    const tensor = this.header.tensors.get(name);
    if (tensor === undefined) throw new RunError(`${this.path}: there is no tensor ${quote(name)}`);
    return tensor;
  }
}

/** Wider types first (the order is otherwise kept), so that every tensor is aligned to its element size. */
function alignmentOrder(entries: readonly TensorEntry[]): TensorEntry[] {
  return [...entries].sort((a, b) => bytesPerElement(b.dtype) - bytesPerElement(a.dtype));
}

function layOut(
  entries: readonly TensorEntry[],
  metadata: Readonly<Record<string, string>>,
): SafetensorsHeader {
  const tensors = new Map<string, StoredTensor>();
  let begin = 0;
  for (const entry of entries) {
    const { name, dtype, shape } = entry;
    if (tensors.has(name) || name === '__metadata__') {
      throw new RunError(`cannot write two tensors of the name ${quote(name)}`);
    }
    const end = begin + storedBytes(entry);
    tensors.set(name, { dtype, shape, begin, end });
    begin = end;
  }
  return { metadata: new Map(Object.entries(metadata)), tensors };
}

/**
 * Writes a file of tensors, one at a time: memory holds no more than the largest, or a piece of those that come in pieces. The file appears under its name
 * only when it is complete and on the disk; on failure (`RunError`) what was there before is untouched.
 */
export async function writeSafetensors(
  path: string,
  entries: Iterable<TensorEntry>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const ordered = alignmentOrder([...entries]);
  const header = layOut(ordered, metadata);
  await writeAtomically(path, async (write) => {
    write(serialiseHeader(header));
    for (const entry of ordered) for await (const piece of entryPieces(entry)) write(piece);
  });
}
