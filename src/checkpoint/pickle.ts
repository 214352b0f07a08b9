/**
 * An interpreter for the part of Python's pickle language that a checkpoint needs: containers, numbers, strings and
 * calls of functions from an allow-list. There is no way from a pickle to anything else: an opcode that is not listed
 * here is an error, a global that is not becomes a value that nothing calls, and nothing is ever imported or evaluated.
 * Opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
 */
import { RunError } from '../errors.js';

/** A pickle larger than this describes no checkpoint: one of 10,000 tensors takes 2 MB. */
const MAX_PICKLE_BYTES = 16 * 2 ** 20;

/** Objects a pickle may make, a dict counted as four: those of 80,000 tensors. */
const MAX_MADE = 1_000_000;
const MAX_MEMO = 2_000_000;
/** Names of parameters have a hundred characters. */
const MAX_KEY = 1024;

export class PickleDict extends Map<string, PickleValue> {}

/** A callable or a class that the allow-list names; `call` is absent for those that are only mentioned. */
export interface PickleGlobal {
  readonly global: string;
  readonly call?: (args: readonly PickleValue[]) => PickleValue;
}

/** Something that is not read, and that nothing calls: an unknown class, or what would be made of one. */
export class Opaque implements PickleObject {
  readonly object = 'opaque';
  constructor(readonly name: string) {}
}

/** An object made by one of the allowed globals or from a persistent id. */
export interface PickleObject {
  readonly object: string;
}

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleDict
  | PickleGlobal
  | PickleObject;

export interface PickleRules {
  /** `module.name` → what it stands for. */
  readonly globals: ReadonlyMap<string, PickleGlobal>;
  /** Turns a persistent id (the argument of BINPERSID) into an object. */
  readonly persistent: (id: PickleValue) => PickleValue;
}

export function isGlobal(value: PickleValue | undefined): value is PickleGlobal {
  return typeof value === 'object' && value !== null && 'global' in value;
}

/** @throws RunError for a pickle that is larger than a checkpoint's */
export function requirePickleSize(path: string, bytes: number): void {
  if (bytes <= MAX_PICKLE_BYTES) return;
  throw new RunError(`${path}: refused: a pickle of ${bytes} bytes (limit ${MAX_PICKLE_BYTES})`);
}

/** Runs a pickle. Throws `RunError` (with `path`) for anything outside the rules, malformed or cut short. */
export function unpickle(path: string, bytes: Uint8Array, rules: PickleRules): PickleValue {
  requirePickleSize(path, bytes.byteLength);
  try {
    return new Unpickler(path, bytes, rules).run();
  } catch (error) {
    if (error instanceof RangeError) throw new RunError(`${path}: damaged pickle: it is cut short`);
    throw error;
  }
}

class Unpickler {
  private readonly data: DataView;
  private position = 0;
  private made = 0;
  private stack: PickleValue[] = [];
  private readonly outer: PickleValue[][] = [];
  private readonly memo = new Map<number, PickleValue>();

  constructor(
    private readonly path: string,
    private readonly bytes: Uint8Array,
    private readonly rules: PickleRules,
  ) {
    this.data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): PickleValue {
    for (;;) {
      const opcode = this.uint8();
      if (opcode === 0x2e /* STOP */) return this.pop();
      const step = STEPS.get(opcode);
      if (step === undefined) {
        const shown = `0x${opcode.toString(16).padStart(2, '0')} at byte ${this.position - 1}`;
        throw this.refused(`opcode ${shown}, which no checkpoint needs`);
      }
      step(this);
    }
  }

  damaged(problem: string): RunError {
    return new RunError(`${this.path}: damaged pickle: ${problem} at byte ${this.position}`);
  }

  refused(what: string): RunError {
    return new RunError(`${this.path}: refused: its pickle uses ${what}`);
  }

  uint8(): number {
    return this.data.getUint8(this.position++);
  }

  uint16(): number {
    this.position += 2;
    return this.data.getUint16(this.position - 2, true);
  }

  int32(): number {
    this.position += 4;
    return this.data.getInt32(this.position - 4, true);
  }

  uint32(): number {
    this.position += 4;
    return this.data.getUint32(this.position - 4, true);
  }

  uint64(): number {
    this.position += 8;
    return Number(this.data.getBigUint64(this.position - 8, true));
  }

  float64(): number {
    this.position += 8;
    return this.data.getFloat64(this.position - 8, false);
  }

  take(length: number): Uint8Array {
    if (this.position + length > this.bytes.byteLength) throw new RangeError('cut short');
    this.position += length;
    return this.bytes.subarray(this.position - length, this.position);
  }

  text(length: number): string {
    return Buffer.from(this.take(length)).toString('utf8');
  }

  line(): string {
    const end = this.bytes.indexOf(10, this.position);
    if (end < 0) throw new RangeError('cut short');
    const line = this.text(end - this.position);
    this.position++;
    return line;
  }

  /** LONG1's integer: little-endian two's complement; a plain number where it fits. */
  long(length: number): number | bigint {
    if (length > 255) throw this.refused(`an integer of ${length} bytes`);
    let value = 0n;
    for (const byte of this.take(length).toReversed()) value = (value << 8n) | BigInt(byte);
    const signed = BigInt.asIntN(8 * length, value);
    return BigInt.asIntN(53, signed) === signed ? Number(signed) : signed;
  }

  push(value: PickleValue): void {
    this.stack.push(value);
  }

  pop(): PickleValue {
    const value = this.stack.pop();
    if (value === undefined) throw this.damaged('the stack is empty');
    return value;
  }

  top(): PickleValue {
    const value = this.stack.at(-1);
    if (value === undefined) throw this.damaged('the stack is empty');
    return value;
  }

  /** An empty dict, list or set counts for what it takes in memory. */
  count(cost: number): void {
    this.made += cost;
    if (this.made > MAX_MADE) throw this.refused(`more than ${MAX_MADE} objects`);
  }

  container(value: PickleValue, cost: number): void {
    this.count(cost);
    this.stack.push(value);
  }

  mark(): void {
    this.count(1);
    this.outer.push(this.stack);
    this.stack = [];
  }

  popMark(): PickleValue[] {
    const values = this.stack;
    const outer = this.outer.pop();
    if (outer === undefined) throw this.damaged('there is no mark');
    this.stack = outer;
    return values;
  }

  popMany(count: number): PickleValue[] {
    if (this.stack.length < count) throw this.damaged('the stack is too short');
    return this.stack.splice(this.stack.length - count);
  }

  put(index: number): void {
    this.memo.set(index, this.top());
    if (this.memo.size > MAX_MEMO) throw this.refused(`more than ${MAX_MEMO} memo entries`);
  }

  memoize(): void {
    this.put(this.memo.size);
  }

  get(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw this.damaged(`memo ${index} is empty`);
    this.push(value);
  }

  append(values: readonly PickleValue[]): void {
    const list = this.top();
    if (list instanceof Opaque) return;
    if (!Array.isArray(list)) throw this.damaged('appending to what is not a list');
    for (const value of values) list.push(value);
  }

  setItems(items: readonly PickleValue[]): void {
    const dict = this.top();
    if (dict instanceof Opaque) return;
    if (!(dict instanceof PickleDict)) throw this.damaged('setting an item of what is not a dict');
    for (let index = 0; index < items.length; index += 2) {
      const [key, value] = [items[index], items[index + 1]];
      if (value === undefined) throw this.damaged('a key without a value');
      // A tensor has a name; what lies under another key is none of ours.
      if (typeof key !== 'string' && typeof key !== 'number') continue;
      if (typeof key === 'string' && key.length > MAX_KEY)
        throw this.refused(`a key of ${key.length} characters`);
      dict.set(String(key), value);
    }
  }

  global(module: string, name: string): void {
    const full = `${module}.${name}`;
    const value = this.rules.globals.get(full);
    this.push(value ?? new Opaque(full));
  }

  stackGlobal(): void {
    const [module, name] = this.popMany(2);
    if (typeof module !== 'string' || typeof name !== 'string') throw this.damaged('a global without a name');
    this.global(module, name);
  }

  call(): void {
    const [callable, args] = this.popMany(2);
    this.count(2);
    if (callable instanceof Opaque) {
      this.push(callable);
      return;
    }
    if (!isGlobal(callable) || callable.call === undefined || !Array.isArray(args)) {
      throw this.refused('a call of what is not a function');
    }
    this.push(callable.call(args));
  }

  /** Attributes of a state dict (torch's `_metadata`) say nothing about tensors and are dropped. */
  build(): void {
    this.pop();
    const target = this.top();
    if (!(target instanceof PickleDict || target instanceof Opaque))
      throw this.refused('attributes on what is not a dict');
  }

  persistent(): void {
    this.container(this.rules.persistent(this.pop()), 1);
  }
}

/** Sets hold no tensors. */
const SET = new Opaque('set');

// prettier-ignore
const STEPS: ReadonlyMap<number, (machine: Unpickler) => void> = new Map<number, (machine: Unpickler) => void>([
  [0x80, (m) => void m.uint8()], // PROTO
  [0x95, (m) => void m.uint64()], // FRAME: only a hint of lengths
  [0x4e, (m) => { m.push(null); }], // NONE
  [0x88, (m) => { m.push(true); }], // NEWTRUE
  [0x89, (m) => { m.push(false); }], // NEWFALSE
  [0x4a, (m) => { m.push(m.int32()); }], // BININT
  [0x4b, (m) => { m.push(m.uint8()); }], // BININT1
  [0x4d, (m) => { m.push(m.uint16()); }], // BININT2
  [0x8a, (m) => { m.push(m.long(m.uint8())); }], // LONG1
  [0x47, (m) => { m.push(m.float64()); }], // BINFLOAT
  [0x58, (m) => { m.push(m.text(m.uint32())); }], // BINUNICODE
  [0x8c, (m) => { m.push(m.text(m.uint8())); }], // SHORT_BINUNICODE
  [0x8d, (m) => { m.push(m.text(m.uint64())); }], // BINUNICODE8
  [0x55, (m) => { m.push(m.text(m.uint8())); }], // SHORT_BINSTRING
  [0x43, (m) => { m.container(m.take(m.uint8()), 1); }], // SHORT_BINBYTES
  [0x42, (m) => { m.container(m.take(m.uint32()), 1); }], // BINBYTES
  [0x7d, (m) => { m.container(new PickleDict(), 4); }], // EMPTY_DICT
  [0x5d, (m) => { m.container([], 1); }], // EMPTY_LIST
  [0x29, (m) => { m.container([], 1); }], // EMPTY_TUPLE
  [0x28, (m) => { m.mark(); }], // MARK
  [0x74, (m) => { m.push(m.popMark()); }], // TUPLE
  [0x85, (m) => { m.container(m.popMany(1), 1); }], // TUPLE1
  [0x86, (m) => { m.container(m.popMany(2), 1); }], // TUPLE2
  [0x87, (m) => { m.container(m.popMany(3), 1); }], // TUPLE3
  [0x61, (m) => { m.append(m.popMany(1)); }], // APPEND
  [0x65, (m) => { m.append(m.popMark()); }], // APPENDS
  [0x73, (m) => { m.setItems(m.popMany(2)); }], // SETITEM
  [0x75, (m) => { m.setItems(m.popMark()); }], // SETITEMS
  [0x71, (m) => { m.put(m.uint8()); }], // BINPUT
  [0x72, (m) => { m.put(m.uint32()); }], // LONG_BINPUT
  [0x94, (m) => { m.memoize(); }], // MEMOIZE
  [0x68, (m) => { m.get(m.uint8()); }], // BINGET
  [0x6a, (m) => { m.get(m.uint32()); }], // LONG_BINGET
  [0x63, (m) => { m.global(m.line(), m.line()); }], // GLOBAL
  [0x93, (m) => { m.stackGlobal(); }], // STACK_GLOBAL
  [0x52, (m) => { m.call(); }], // REDUCE
  [0x81, (m) => { m.call(); }], // NEWOBJ: cls(*args) for the one class that is allowed, OrderedDict
  [0x62, (m) => { m.build(); }], // BUILD
  [0x51, (m) => { m.persistent(); }], // BINPERSID
  [0x8b, (m) => { m.push(m.long(m.uint32())); }], // LONG4
  [0x8e, (m) => { m.container(m.take(m.uint64()), 1); }], // BINBYTES8
  [0x96, (m) => { m.container(m.take(m.uint64()), 1); }], // BYTEARRAY8
  [0x54, (m) => { m.push(m.text(m.uint32())); }], // BINSTRING
  [0x8f, (m) => { m.push(SET); }], // EMPTY_SET
  [0x90, (m) => { m.popMark(); }], // ADDITEMS
  [0x91, (m) => { m.popMark(); m.push(SET); }], // FROZENSET
  [0x92, (m) => { m.pop(); m.call(); }], // NEWOBJ_EX
  [0x30, (m) => { m.pop(); }], // POP
  [0x31, (m) => { m.popMark(); }], // POP_MARK
  [0x32, (m) => { m.push(m.top()); }], // DUP
]);
