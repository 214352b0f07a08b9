/**
 * torch.save's format since PyTorch 1.6: a zip archive of `NAME/data.pkl`, a pickle in which storages are persistent
 * ids, and `NAME/data/KEY`, the raw bytes of each storage.
 */
import { RunError } from '../errors.js';
import { bytesPerElement, elementCount } from './data-type.js';
import { refusePointer } from './foreign.js';
import { quote, RandomAccessFile } from './files.js';
import { requirePickleSize, unpickle } from './pickle.js';
import { PickleDict, type PickleValue } from './pickle-values.js';
import { TensorSource } from './tensor-source.js';
import type { TensorInfo } from './tensor-source.js';
import { span, torchRules, TorchTensor } from './torch-objects.js';
import type { TorchStorage } from './torch-objects.js';
import { ZipArchive } from './zip.js';

/** More values than any checkpoint has; dicts that contain each other repeatedly would grow without end. */
const MAX_VALUES = 500_000;
/** Characters of all names together. */
const MAX_NAMES = 32 * 2 ** 20;
const MAX_DEPTH = 32;

export class TorchArchive extends TensorSource {
  /** The strided view read last, in row-major order: read piece by piece it is gathered once. */
  private gathered: { readonly name: string; readonly bytes: Uint8Array } | undefined;

  private constructor(
    private readonly zip: ZipArchive,
    private readonly prefix: string,
    private readonly tensors: ReadonlyMap<string, TorchTensor>,
  ) {
    super();
  }

  /**
   * Reads the pickle and checks every tensor against the archive; data is read later. Names of tensors in nested
   * dicts and lists are joined with dots. Throws `RunError` for anything that is not plainly a checkpoint.
   */
  static open(path: string): TorchArchive {
    refuseOldFormat(path);
    const zip = ZipArchive.open(path);
    try {
      const pickles = zip.names().filter((name) => /^[^/]+\/data\.pkl$/.test(name));
      const [name] = pickles;
      if (name === undefined || pickles.length > 1) {
        throw new RunError(`${path}: not a torch checkpoint: the archive has no single data.pkl`);
      }
      const prefix = name.slice(0, -'data.pkl'.length);
      checkByteOrder(zip, prefix);
      requirePickleSize(path, zip.size(name) ?? 0);
      const tensors = collectTensors(path, unpickle(path, zip.read(name), torchRules(path)));
      checkStorages(zip, prefix, tensors);
      return new TorchArchive(zip, prefix, tensors);
    } catch (error) {
      zip.close();
      throw error;
    }
  }

  get path(): string {
    return this.zip.path;
  }

  names(): readonly string[] {
    return [...this.tensors.keys()];
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  info(name: string): TensorInfo {
    const { storage, shape } = this.tensor(name);
    return { dtype: storage.dtype, shape };
  }

  readInto(name: string, offset: number, target: Uint8Array): void {
    const { storage, offset: first, shape, strides } = this.tensor(name);
    if (isContiguous(shape, strides)) {
      this.zip.readInto(this.entry(storage), first * bytesPerElement(storage.dtype) + offset, target);
    } else {
      target.set(this.rowMajor(name).subarray(offset, offset + target.byteLength));
    }
  }

  close(): void {
    this.zip.close();
  }

  private entry(storage: TorchStorage): string {
    return `${this.prefix}data/${storage.key}`;
  }

  /** All bytes of a strided view of a storage. */
  private rowMajor(name: string): Uint8Array {
    if (this.gathered?.name === name) return this.gathered.bytes;
    this.gathered = undefined;
    const { storage, offset, shape, strides } = this.tensor(name);
    const width = bytesPerElement(storage.dtype);
    const stored = this.zip.read(this.entry(storage), offset * width, span(shape, strides) * width);
    this.gathered = { name, bytes: gather(stored, width, shape, strides) };
    return this.gathered.bytes;
  }

  private tensor(name: string): TorchTensor {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) throw new RunError(`${this.path}: there is no tensor ${quote(name)}`);
    return tensor;
  }
}

/** Before version 1.6 torch wrote a plain sequence of pickles, which begins with the opcode PROTO. */
function refuseOldFormat(path: string): void {
  const file = RandomAccessFile.open(path);
  let first: number | undefined;
  try {
    refusePointer(file);
    [first] = file.read(0, Math.min(1, file.size));
  } finally {
    file.close();
  }
  if (first === 0x80) {
    throw new RunError(
      `${path}: in torch's format from before version 1.6: load and save it again with a newer torch`,
    );
  }
}

function checkByteOrder(zip: ZipArchive, prefix: string): void {
  const size = zip.size(`${prefix}byteorder`);
  if (size === undefined) return;
  const order = Buffer.from(zip.read(`${prefix}byteorder`, 0, Math.min(size, 16))).toString();
  if (order !== 'little')
    throw new RunError(`${zip.path}: its tensors are ${quote(order)}-endian, only little is read`);
}

/** Every tensor below `root`, depth first, under its dotted path. Numbers, strings and None are passed over. */
function collectTensors(path: string, root: PickleValue): Map<string, TorchTensor> {
  const tensors = new Map<string, TorchTensor>();
  let visited = 0;
  let characters = 0;
  const visit = (value: PickleValue, names: readonly string[]): void => {
    if (++visited > MAX_VALUES || names.length > MAX_DEPTH) {
      throw new RunError(`${path}: refused: its containers are nested too deeply or hold each other`);
    }
    if (value instanceof TorchTensor) {
      const name = names.join('.');
      characters += name.length;
      if (characters > MAX_NAMES)
        throw new RunError(`${path}: refused: its names have more than ${MAX_NAMES} characters`);
      if (tensors.has(name)) throw new RunError(`${path}: two tensors have the name ${quote(name)}`);
      tensors.set(name, value);
    } else if (value instanceof PickleDict) {
      for (const [key, item] of value) visit(item, [...names, key]);
    } else if (Array.isArray(value)) {
      value.forEach((item, index) => {
        visit(item, [...names, String(index)]);
      });
    }
  };
  visit(root, []);
  return tensors;
}

function checkStorages(zip: ZipArchive, prefix: string, tensors: ReadonlyMap<string, TorchTensor>): void {
  for (const [name, { storage }] of tensors) {
    const size = zip.size(`${prefix}data/${storage.key}`);
    const expected = storage.elements * bytesPerElement(storage.dtype);
    if (size !== expected) {
      throw new RunError(
        `${zip.path}: tensor ${quote(name)}: its storage holds ${size ?? 'no'} bytes where ${expected} are declared`,
      );
    }
  }
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis] ?? 0;
    if (size === 0) return true;
    if (size !== 1 && strides[axis] !== expected) return false;
    expected *= size;
  }
  return true;
}

/** Copies the elements of a strided view into row-major order. */
function gather(
  bytes: Uint8Array,
  width: number,
  shape: readonly number[],
  strides: readonly number[],
): Uint8Array {
  const out = new Uint8Array((elementCount(shape) ?? 0) * width);
  const index = shape.map(() => 0);
  let source = 0;
  for (let target = 0; target < out.byteLength; target += width) {
    for (let byte = 0; byte < width; byte++) out[target + byte] = bytes[source * width + byte] ?? 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const next = (index[axis] ?? 0) + 1;
      source += strides[axis] ?? 0;
      index[axis] = next;
      if (next < (shape[axis] ?? 0)) break;
      source -= next * (strides[axis] ?? 0);
      index[axis] = 0;
    }
  }
  return out;
}
