/**
 * An interpreter for the part of Python's pickle language that a checkpoint needs: containers, numbers, strings and
 * calls of functions from an allow-list. There is no way from a pickle to anything else: an opcode that is not listed
 * here is an error, a global that is not becomes a value that nothing calls, and nothing is ever imported or evaluated.
 * Opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
 */
import { RunError } from '../errors.js';
import { PickleMachine } from './pickle-machine.js';
import { Opaque, PickleDict, type PickleRules, type PickleValue } from './pickle-values.js';

/** A pickle larger than this describes no checkpoint: one of 10,000 tensors takes 2 MB. */
const MAX_PICKLE_BYTES = 16 * 2 ** 20;

/** @throws RunError for a pickle that is larger than a checkpoint's */
export function requirePickleSize(path: string, bytes: number): void {
  if (bytes <= MAX_PICKLE_BYTES) return;
  throw new RunError(`${path}: refused: a pickle of ${bytes} bytes (limit ${MAX_PICKLE_BYTES})`);
}

/** Runs a pickle. Throws `RunError` (with `path`) for anything outside the rules, malformed or cut short. */
export function unpickle(path: string, bytes: Uint8Array, rules: PickleRules): PickleValue {
  requirePickleSize(path, bytes.byteLength);
  try {
    return run(new PickleMachine(path, bytes, rules));
  } catch (error) {
    if (error instanceof RangeError) throw new RunError(`${path}: damaged pickle: it is cut short`);
    throw error;
  }
}

function run(machine: PickleMachine): PickleValue {
  for (;;) {
    const opcode = machine.uint8();
    if (opcode === 0x2e /* STOP */) return machine.pop();
    const step = STEPS.get(opcode);
    if (step === undefined) {
      const shown = `0x${opcode.toString(16).padStart(2, '0')} at byte ${machine.position - 1}`;
      throw machine.refused(`opcode ${shown}, which no checkpoint needs`);
    }
    step(machine);
  }
}

/** Sets hold no tensors. */
const SET = new Opaque('set');

// prettier-ignore
const STEPS: ReadonlyMap<number, (machine: PickleMachine) => void> = new Map<number, (machine: PickleMachine) => void>([
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
