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

const TWO_32 = 2 ** 32;

const MOST_ARGUMENTS = 24;
const SLOT_BYTES = 8;
/** Where structs lie, after the slots of scalar arguments. */
const STRUCTS_AT = MOST_ARGUMENTS * SLOT_BYTES;
const BLOCK_BYTES = 4096;

/** Host memory in which arguments are laid out for the driver: their bytes, and a pointer to each. */
export interface ArgumentBlock {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Address of `bytes`. */
  readonly address: bigint;
  /** Address of each argument, in order. */
  readonly pointers: BigUint64Array;
  /** Addresses of the slots, of which argument i takes the i-th unless it is a struct. */
  readonly slots: readonly bigint[];
}

/** @param addressOf gives the address of host memory */
export function argumentBlock(addressOf: (bytes: Uint8Array) => bigint): ArgumentBlock {
  const bytes = new Uint8Array(BLOCK_BYTES);
  const address = addressOf(bytes);
  const slots = Array.from({ length: MOST_ARGUMENTS }, (_, index) => address + BigInt(index * SLOT_BYTES));
  return {
    bytes,
    view: new DataView(bytes.buffer),
    address,
    pointers: new BigUint64Array(MOST_ARGUMENTS),
    slots,
  };
}

/**
 * Lays out the arguments in the block. Each gets a pointer of its own, because only the driver knows the offsets of
 * parameters: ptxas moves those of 64-byte alignment.
 */
export function packArguments(
  { bytes, view, address, pointers, slots }: ArgumentBlock,
  args: readonly KernelArgument[],
): void {
  if (args.length > MOST_ARGUMENTS) throw new Error(`a kernel has more than ${MOST_ARGUMENTS} arguments`);
  let structs = STRUCTS_AT;
  for (let index = 0; index < args.length; index++) {
    const argument = args[index] as KernelArgument;
    const offset = index * SLOT_BYTES;
    pointers[index] = slots[index] ?? 0n;
    switch (argument.kind) {
      case 'pointer':
      case 'int64':
        view.setUint32(offset, ((argument.value % TWO_32) + TWO_32) % TWO_32, true);
        view.setInt32(offset + 4, Math.floor(argument.value / TWO_32), true);
        break;
      case 'int32':
        view.setInt32(offset, argument.value, true);
        break;
      case 'float32':
        view.setFloat32(offset, argument.value, true);
        break;
      case 'bytes':
        structs = Math.ceil(structs / argument.alignment) * argument.alignment;
        bytes.set(argument.value, structs);
        pointers[index] = address + BigInt(structs);
        structs += argument.value.length;
        break;
    }
  }
}

/** A CUlaunchConfig of blocks in one dimension with one attribute set; returns the memory it lies in. */
export function launchConfiguration(
  stream: number,
  attribute: number,
  addressOf: (memory: Uint8Array) => bigint,
): (x: number, y: number, z: number, threads: number, shared: number) => Uint8Array {
  const attributes = new Uint8Array(72);
  const view = new DataView(attributes.buffer);
  view.setUint32(0, attribute, true);
  const bytes = new Uint8Array(56);
  const fields = new DataView(bytes.buffer);
  fields.setBigUint64(32, BigInt(stream), true);
  fields.setBigUint64(40, addressOf(attributes), true);
  fields.setUint32(48, 1, true);
  return (x, y, z, threads, shared) => {
    // Also keeps the attributes from being collected.
    view.setInt32(8, 1, true);
    [x, y, z, threads, 1, 1, shared].forEach((value, i) => {
      fields.setUint32(4 * i, value, true);
    });
    return bytes;
  };
}
