import { RunError } from '../errors.js';
import { elementCount } from './data-type.js';
import { quote, writeAtomically } from './files.js';
import { entryPieces, storedBytes } from './tensor-source.js';
import type { TensorEntry } from './tensor-source.js';
import { storageClass } from './torch-objects.js';
import { ZipWriter } from './zip-writer.js';

/** The opcodes of protocol 2 that a state dict is written with. */
class PickleWriter {
  private readonly parts: Uint8Array[] = [Buffer.from([0x80, 2])];

  opcode(...bytes: number[]): this {
    this.parts.push(Buffer.from(bytes));
    return this;
  }

  global(module: string, name: string): this {
    this.parts.push(Buffer.from(`c${module}\n${name}\n`));
    return this;
  }

  text(value: string): this {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(5, 'X');
    length.writeUInt32LE(bytes.byteLength, 1);
    this.parts.push(length, bytes);
    return this;
  }

  integer(value: number): this {
    if (value <= 0x7fffffff) {
      const bytes = Buffer.alloc(5, 'J');
      bytes.writeInt32LE(value, 1);
      this.parts.push(bytes);
    } else {
      const bytes = Buffer.alloc(10);
      bytes[0] = 0x8a;
      bytes[1] = 8;
      bytes.writeBigInt64LE(BigInt(value), 2);
      this.parts.push(bytes);
    }
    return this;
  }

  tuple(values: readonly number[]): this {
    this.opcode(0x28);
    for (const value of values) this.integer(value);
    return this.opcode(0x74);
  }

  emptyOrderedDict(): this {
    return this.global('collections', 'OrderedDict').opcode(0x29, 0x52);
  }

  finish(): Uint8Array {
    this.opcode(0x2e);
    return Buffer.concat(this.parts);
  }
}

function contiguousStrides(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--) {
    strides[axis] = (strides[axis + 1] ?? 1) * Math.max(shape[axis + 1] ?? 1, 1);
  }
  return strides;
}

function stateDictPickle(entries: readonly TensorEntry[]): Uint8Array {
  const pickle = new PickleWriter().emptyOrderedDict().opcode(0x28);
  for (const [key, { name, dtype, shape }] of entries.entries()) {
    const storage = storageClass(dtype);
    if (storage === undefined)
      throw new RunError(`tensor ${quote(name)}: torch has no storage of type ${dtype}`);
    pickle.text(name).global('torch._utils', '_rebuild_tensor_v2').opcode(0x28);
    pickle.opcode(0x28).text('storage').global('torch', storage).text(String(key)).text('cpu');
    pickle.integer(elementCount(shape) ?? 0).opcode(0x74, 0x51);
    pickle.integer(0).tuple(shape).tuple(contiguousStrides(shape)).opcode(0x89).emptyOrderedDict();
    pickle.opcode(0x74, 0x52);
  }
  return pickle.opcode(0x75).finish();
}

/** Writes an `OrderedDict` of tensors as `torch.save(state_dict, path)` does, one tensor at a time, atomically. */
export async function writeTorchArchive(path: string, entries: Iterable<TensorEntry>): Promise<void> {
  const list = [...entries];
  const pickle = stateDictPickle(list);
  await writeAtomically(path, async (write) => {
    const zip = new ZipWriter(write);
    zip.add('checkpoint/data.pkl', pickle);
    zip.add('checkpoint/byteorder', Buffer.from('little'));
    for (const [key, entry] of list.entries()) {
      await zip.addPieces(`checkpoint/data/${key}`, storedBytes(entry), entryPieces(entry));
    }
    zip.add('checkpoint/version', Buffer.from('3\n'));
    zip.finish();
  });
}
