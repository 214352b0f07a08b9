/** One argument of a kernel. */
export type KernelArgument =
  | { kind: 'pointer' | 'int64'; value: number }
  | { kind: 'int32'; value: number }
  | { kind: 'float32'; value: number }
  /** A struct passed by value. */
  | { kind: 'bytes'; value: Uint8Array; alignment: number };

export const pointer = (value: number): KernelArgument => ({ kind: 'pointer', value });
export const int64 = (value: number): KernelArgument => ({ kind: 'int64', value });
export const int32 = (value: number): KernelArgument => ({ kind: 'int32', value });
export const float32 = (value: number): KernelArgument => ({ kind: 'float32', value });

/** A C array of 64-bit integers as a by-value struct. */
export function int64s(values: readonly number[], length: number): KernelArgument {
  const words = new BigInt64Array(length);
  values.forEach((value, index) => (words[index] = BigInt(value)));
  return { kind: 'bytes', value: new Uint8Array(words.buffer), alignment: 8 };
}

/** A C array of 32-bit integers as a by-value struct. */
export function int32s(values: readonly number[], length: number): KernelArgument {
  const words = new Int32Array(length);
  words.set(values);
  return { kind: 'bytes', value: new Uint8Array(words.buffer), alignment: 4 };
}

const TWO_32 = 2 ** 32;

/** Host memory in which arguments are laid out for the driver: their bytes, and a pointer to each. */
export interface ArgumentBlock {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Address of `bytes`. */
  readonly address: bigint;
  /** Address of each argument, in order. */
  readonly pointers: BigUint64Array;
}

/**
 * Lays out the arguments in the block. Each gets a pointer of its own, because only the driver knows the offsets of
 * parameters: ptxas moves those of 64-byte alignment.
 */
export function packArguments(
  { bytes, view, address, pointers }: ArgumentBlock,
  args: readonly KernelArgument[],
): void {
  let offset = 0;
  args.forEach((argument, index) => {
    const alignment = argument.kind === 'bytes' ? Math.max(8, argument.alignment) : 8;
    offset = Math.ceil(offset / alignment) * alignment;
    pointers[index] = address + BigInt(offset);
    switch (argument.kind) {
      case 'pointer':
      case 'int64':
        view.setUint32(offset, ((argument.value % TWO_32) + TWO_32) % TWO_32, true);
        view.setInt32(offset + 4, Math.floor(argument.value / TWO_32), true);
        offset += 8;
        break;
      case 'int32':
        view.setInt32(offset, argument.value, true);
        offset += 4;
        break;
      case 'float32':
        view.setFloat32(offset, argument.value, true);
        offset += 4;
        break;
      case 'bytes':
        bytes.set(argument.value, offset);
        offset += argument.value.length;
        break;
    }
  });
}
