/** Arguments of a kernel as the driver takes them: one block of bytes laid out like the C parameter list. */
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

/** Writes the arguments at their C offsets into `view`; returns the number of bytes used. */
export function packArguments(view: DataView, bytes: Uint8Array, args: readonly KernelArgument[]): number {
  let offset = 0;
  const align = (to: number): void => {
    offset = Math.ceil(offset / to) * to;
  };
  for (const argument of args) {
    switch (argument.kind) {
      case 'pointer':
      case 'int64':
        align(8);
        view.setUint32(offset, ((argument.value % TWO_32) + TWO_32) % TWO_32, true);
        view.setInt32(offset + 4, Math.floor(argument.value / TWO_32), true);
        offset += 8;
        break;
      case 'int32':
        align(4);
        view.setInt32(offset, argument.value, true);
        offset += 4;
        break;
      case 'float32':
        align(4);
        view.setFloat32(offset, argument.value, true);
        offset += 4;
        break;
      case 'bytes':
        align(argument.alignment);
        bytes.set(argument.value, offset);
        offset += argument.value.length;
        break;
    }
  }
  return offset;
}
