/**
 * Writes WebAssembly modules in memory: the few instructions that a kernel needs, as functions from the code of their operands
 * to code. Numbers of instructions are those of the specification (https://webassembly.github.io/spec/core/binary).
 */

import { WebAssembly } from './webassembly.js';

/** Bytes that leave a value on the stack, or do something. */
export type Code = readonly number[];

const TYPES = { i32: 0x7f, f32: 0x7d, v128: 0x7b } as const;
export type ValueType = keyof typeof TYPES;

/** LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

function signed(value: number): number[] {
  const bytes: number[] = [];
  for (;;) {
    const low = value & 127;
    value >>= 7;
    const isLast = low & 64 ? value === -1 : value === 0;
    if (isLast) return [...bytes, low];
    bytes.push(low | 128);
  }
}

type Operators<Names extends string> = Readonly<Record<Names, (...operands: Code[]) => Code>>;

function operators<Names extends string>(
  numbers: Readonly<Record<Names, number>>,
  prefix: Code,
): Operators<Names> {
  const entries = Object.entries<number>(numbers).map(([name, number]) => {
    const code = prefix.length > 0 ? [...prefix, ...unsigned(number)] : [number];
    return [name, (...operands: Code[]): Code => [...operands.flat(), ...code]];
  });
  return Object.fromEntries(entries) as Operators<Names>;
}

const plain = <Names extends string>(numbers: Readonly<Record<Names, number>>): Operators<Names> =>
  operators(numbers, []);
const SIMD = 0xfd;
const simd = <Names extends string>(numbers: Readonly<Record<Names, number>>): Operators<Names> =>
  operators(numbers, [SIMD]);

/** Reads or writes memory `offset` bytes after an address; alignment is only a hint, and none is given. */
type Load = (address: Code, offset?: number) => Code;
type Store = (address: Code, value: Code, offset?: number) => Code;
const load =
  (...code: number[]): Load =>
  (address, offset = 0) => [...address, ...code, 0, ...unsigned(offset)];
const store =
  (...code: number[]): Store =>
  (address, value, offset = 0) => [...address, ...value, ...code, 0, ...unsigned(offset)];

export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value)],
  load: load(0x28),
  ...plain({ add: 0x6a, lt_u: 0x49 }),
};

export const f32 = {
  const: (value: number): Code => [0x43, ...new Uint8Array(Float32Array.of(value).buffer)],
  load: load(0x2a),
  store: store(0x38),
  ...plain({ add: 0x92, mul: 0x94, gt: 0x5e }),
};

export const v128 = {
  load: load(SIMD, 0),
  load8x8_s: load(SIMD, 1),
  load16x4_u: load(SIMD, 4),
  load32_splat: load(SIMD, 9),
  load64_zero: load(SIMD, 0x5d),
  store: store(SIMD, 11),
  zero: [SIMD, 12, ...new Array<number>(16).fill(0)] as Code,
  /** Bytes of the two operands, 0 to 31. */
  shuffle: (a: Code, b: Code, bytes: readonly number[]): Code => [...a, ...b, SIMD, 13, ...bytes],
  ...simd({ and: 78, or: 80 }),
};

/** Lanes of 32 or 16 bits of the two operands. */
export const shuffle32 = (a: Code, b: Code, lanes: readonly number[]): Code =>
  v128.shuffle(a, b, lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte))); // prettier-ignore
export const shuffle16 = (a: Code, b: Code, lanes: readonly number[]): Code =>
  v128.shuffle(a, b, lanes.flatMap((lane) => [2 * lane, 2 * lane + 1])); // prettier-ignore

export const f32x4 = {
  first: (x: Code): Code => [...x, SIMD, 31, 0],
  all: (value: number): Code => [...f32.const(value), SIMD, 19],
  /** `pmax` of a and b is b where a < b and a elsewhere. */
  ...simd({ splat: 19, ne: 66, ge: 70, abs: 224, add: 228, sub: 229, mul: 230, div: 231, pmax: 235, convert_i32x4_s: 250 }), // prettier-ignore
};

export const i32x4 = {
  all: (value: number): Code => [...i32.const(value), SIMD, 17],
  ...simd({ shl: 171, shr_s: 172, shr_u: 173, add: 174, dot_i16x8_s: 186 }),
};

export const i16x8 = simd({
  extend_low_i8x16_s: 135,
  extend_high_i8x16_s: 136,
  extend_low_i8x16_u: 137,
  extend_high_i8x16_u: 138,
  shr_u: 141,
});

/** A variable of a function. */
export interface Local {
  readonly get: Code;
  set(value: Code): Code;
}

const BLOCK = 0x40;
const END = 0x0b;

/** A function under construction; it returns nothing. */
export class FunctionWriter {
  private readonly types: ValueType[] = [];
  private readonly body: number[] = [];
  readonly parameters: readonly Local[];

  /** @param count of parameters, all i32 */
  constructor(readonly count: number) {
    this.parameters = Array.from({ length: count }, (_, i) => this.at(i));
  }

  emit(...codes: readonly Code[]): void {
    for (const code of codes) for (const byte of code) this.body.push(byte);
  }

  local(type: ValueType, initial?: Code): Local {
    this.types.push(type);
    const local = this.at(this.count + this.types.length - 1);
    if (initial) this.emit(local.set(initial));
    return local;
  }

  vector(initial?: Code): Local {
    return this.local('v128', initial);
  }

  address(initial: Code): Local {
    return this.local('i32', initial);
  }

  /** Runs the body, and again while the condition that it returns holds. */
  repeat(body: () => Code): void {
    this.emit([0x03, BLOCK]);
    const condition = body();
    this.emit(condition, [0x0d, 0, END]);
  }

  /** Runs the body at least once, with an address that grows by `step` up to `bytes` after `start`. */
  walk(start: Code, bytes: number | Code, step: number, body: (at: Local) => void): void {
    const at = this.address(start);
    const end = this.address(i32.add(start, typeof bytes === 'number' ? i32.const(bytes) : bytes));
    this.repeat(() => {
      body(at);
      this.emit(at.set(i32.add(at.get, i32.const(step))));
      return i32.lt_u(at.get, end.get);
    });
  }

  if(condition: Code, body: () => void): void {
    this.emit(condition, [0x04, BLOCK]);
    body();
    this.emit([END]);
  }

  code(): number[] {
    const locals = [...unsigned(this.types.length), ...this.types.flatMap((type) => [1, TYPES[type]])];
    const all = [...locals, ...this.body, END];
    return [...unsigned(all.length), ...all];
  }

  private at(index: number): Local {
    const number = unsigned(index);
    return { get: [0x20, ...number], set: (value) => [...value, 0x21, ...number] };
  }
}

function section(id: number, items: readonly Code[]): number[] {
  const content = [...unsigned(items.length), ...items.flat()];
  return [id, ...unsigned(content.length), ...content];
}

const name = (text: string): number[] => [...unsigned(text.length), ...Buffer.from(text, 'latin1')];

/** A module that exports `run` and imports `env.memory`, a shared memory of at most `maximum` pages of 64 KiB. */
export function encodeModule(run: FunctionWriter, maximum: number): Uint8Array<ArrayBuffer> {
  const [FUNCTION, MEMORY, SHARED] = [0, 2, 3];
  const type = [0x60, ...unsigned(run.count), ...new Array<number>(run.count).fill(TYPES.i32), 0];
  const memory = [...name('env'), ...name('memory'), MEMORY, SHARED, ...unsigned(1), ...unsigned(maximum)];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [type]),
    ...section(2, [memory]),
    ...section(3, [[0]]),
    ...section(7, [[...name('run'), FUNCTION, 0]]),
    ...section(10, [run.code()]),
  ]);
}

const fused = (a: Code, b: Code, c: Code): Code => [...a, ...b, ...c, SIMD, ...unsigned(0x105)];

/** Whether Node has WebAssembly's relaxed SIMD: Node 20 does not. */
function hasRelaxed(): boolean {
  const f = new FunctionWriter(0);
  f.vector(fused(v128.zero, v128.zero, v128.zero));
  return WebAssembly.validate(encodeModule(f, 1));
}

/** a b + c in lanes of float32: one instruction, rounded once, where Node and the processor have it. */
export const multiplyAdd = hasRelaxed()
  ? fused
  : (a: Code, b: Code, c: Code): Code => f32x4.add(f32x4.mul(a, b), c);
