/** The state of a pickle that is being run: its bytes, the stack and the memo, with limits on what they may take. */
import { RunError } from '../errors.js';
import { isGlobal, Opaque, PickleDict, type PickleRules, type PickleValue } from './pickle-values.js';

/** Objects a pickle may make, a dict counted as four: those of 80,000 tensors. */
const MAX_MADE = 1_000_000;
const MAX_MEMO = 2_000_000;
/** Names of parameters have a hundred characters. */
const MAX_KEY = 1024;

export class PickleMachine {
  private readonly data: DataView;
  /** Of the next byte. */
  position = 0;
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
