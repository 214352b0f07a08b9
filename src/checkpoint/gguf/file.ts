/** One GGUF file as a source of tensors. Blocks of few bits are read as float32, a few of them at a time. */
import { RunError } from '../../errors.js';
import { quote, RandomAccessFile } from '../files.js';
import { refusePointer } from '../foreign.js';
import { TensorSource, type TensorInfo } from '../tensor-source.js';
import { parseGguf, type GgufHeader, type GgufMetadata, type GgufTensor } from './header.js';

export class GgufFile extends TensorSource {
  private bytes = new Uint8Array();
  private values = new Float32Array();

  private constructor(
    private readonly file: RandomAccessFile,
    private readonly header: GgufHeader,
  ) {
    super();
  }

  /** @throws RunError with one line naming file and tensor where the file is not entirely well-formed */
  static open(path: string): GgufFile {
    const file = RandomAccessFile.open(path);
    try {
      refusePointer(file);
      const header = parseGguf(path, (position, length) => file.read(position, length), file.size);
      return new GgufFile(file, header);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  get path(): string {
    return this.file.path;
  }

  get metadata(): GgufMetadata {
    return this.header.metadata;
  }

  names(): readonly string[] {
    return [...this.header.tensors.keys()];
  }

  has(name: string): boolean {
    return this.header.tensors.has(name);
  }

  /** Blocks are float32: what `readInto` gives. */
  info(name: string): TensorInfo {
    const { type, shape } = this.stored(name);
    return { dtype: type.plain ?? 'F32', shape };
  }

  /** The types of the tensors, in the order of the file, by ggml's names. */
  types(): string[] {
    return [...new Set([...this.header.tensors.values()].map(({ type }) => type.name))];
  }

  readInto(name: string, offset: number, target: Uint8Array): void {
    const tensor = this.stored(name);
    if (tensor.type.plain === null) {
      this.readBlocks(name, tensor, offset, target);
      return;
    }
    const { begin, end } = tensor;
    this.checkEnd(name, offset + target.byteLength, end - begin);
    this.file.readInto(begin + offset, target);
  }

  close(): void {
    this.file.close();
  }

  private readBlocks(
    name: string,
    { type, begin, end }: GgufTensor,
    offset: number,
    target: Uint8Array,
  ): void {
    const width = 4 * type.elements;
    this.checkEnd(name, offset + target.byteLength, ((end - begin) / type.bytes) * width);
    const first = Math.floor(offset / width);
    const count = Math.ceil((offset + target.byteLength) / width) - first;
    if (this.values.length < count * type.elements) {
      this.values = new Float32Array(count * type.elements);
      this.bytes = new Uint8Array(count * type.bytes);
    }
    if (this.bytes.length < count * type.bytes) this.bytes = new Uint8Array(count * type.bytes);
    const stored = this.bytes.subarray(0, count * type.bytes);
    this.file.readInto(begin + first * type.bytes, stored);
    for (let block = 0; block < count; block++) {
      const view = new DataView(stored.buffer, stored.byteOffset + block * type.bytes, type.bytes);
      type.widen(view, this.values, block * type.elements);
    }
    target.set(new Uint8Array(this.values.buffer, offset - first * width, target.byteLength));
  }

  private checkEnd(name: string, needed: number, bytes: number): void {
    if (needed > bytes) throw new RunError(`${this.path}: tensor ${quote(name)} ends at byte ${bytes}`);
  }

  private stored(name: string): GgufTensor {
    const tensor = this.header.tensors.get(name);
    if (tensor === undefined) throw new RunError(`${this.path}: there is no tensor ${quote(name)}`);
    return tensor;
  }
}
