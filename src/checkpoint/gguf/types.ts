/** The types of ggml's tensors that are read: plain floats, and blocks of few bits with a scale (ggml, ggml-quants.c). */
import type { DataType } from '../data-type.js';
import { floatToHalf, halfToFloat } from '../data-type.js';

export interface GgmlType {
  readonly name: string;
  readonly id: number;
  /** Elements and bytes of a block; a plain type has blocks of one element. */
  readonly elements: number;
  readonly bytes: number;
  /** What a plain type is here; null for blocks, which are read as float32. */
  readonly plain: DataType | null;
  /** The values of a block, in float32 arithmetic as ggml has it. */
  readonly widen: (block: DataView, out: Float32Array, at: number) => void;
}

const half = (view: DataView, at: number): number => halfToFloat(view.getUint16(at, true));

const plain = (name: DataType, id: number, bytes: number): GgmlType => ({
  ...{ name, id, bytes, plain: name, elements: 1 },
  widen: () => {
    throw new TypeError(`${name} has no blocks`);
  },
});

const blocks = (
  name: string,
  id: number,
  [elements, bytes]: readonly [number, number],
  widen: GgmlType['widen'],
): GgmlType => ({ name, id, elements, bytes, plain: null, widen });

/** d, then 32 signed bytes. */
const Q8_0 = blocks('Q8_0', 8, [32, 34], (block, out, at) => {
  const d = half(block, 0);
  for (let i = 0; i < 32; i++) out[at + i] = d * block.getInt8(2 + i);
});

/** d, then 16 bytes: element i in the low and i + 16 in the high four bits. */
const Q4_0 = blocks('Q4_0', 2, [32, 18], (block, out, at) => {
  const d = half(block, 0);
  for (let i = 0; i < 16; i++) {
    const byte = block.getUint8(2 + i);
    out[at + i] = d * ((byte & 15) - 8);
    out[at + i + 16] = d * ((byte >> 4) - 8);
  }
});

/** As Q4_0, with a fifth bit of each element in 32 bits before. */
const Q5_0 = blocks('Q5_0', 6, [32, 22], (block, out, at) => {
  const d = half(block, 0);
  const fifth = block.getUint32(2, true);
  for (let i = 0; i < 16; i++) {
    const byte = block.getUint8(6 + i);
    out[at + i] = d * (((byte & 15) | (((fifth >>> i) & 1) << 4)) - 16);
    out[at + i + 16] = d * (((byte >> 4) | (((fifth >>> (i + 16)) & 1) << 4)) - 16);
  }
});

/** Scale and minimum of part `part` of eight, six bits each, packed into 12 bytes from byte 4 on. */
function scaleAndMinimum(block: DataView, part: number): [scale: number, minimum: number] {
  const byte = (i: number): number => block.getUint8(4 + i);
  if (part < 4) return [byte(part) & 63, byte(part + 4) & 63];
  return [
    (byte(part + 4) & 15) | ((byte(part - 4) >> 6) << 4),
    (byte(part + 4) >> 4) | ((byte(part) >> 6) << 4),
  ];
}

/** d and dmin, eight scales and minima, perhaps a fifth bit of each element, then four bits: 256 elements in parts of 32. */
function superBlock(fifthBits: number | null, low: number): GgmlType['widen'] {
  return (block, out, at) => {
    const [d, least] = [half(block, 0), half(block, 2)];
    for (let part = 0; part < 8; part++) {
      const [scale, minimum] = scaleAndMinimum(block, part);
      const [factor, offset] = [d * scale, least * minimum];
      const shift = (part & 1) * 4;
      for (let i = 0; i < 32; i++) {
        const four = (block.getUint8(low + (part >> 1) * 32 + i) >> shift) & 15;
        const fifth = fifthBits === null ? 0 : (block.getUint8(fifthBits + i) >> part) & 1;
        out[at + part * 32 + i] = factor * (four | (fifth << 4)) - offset;
      }
    }
  };
}

const Q4_K = blocks('Q4_K', 12, [256, 144], superBlock(null, 16));
const Q5_K = blocks('Q5_K', 13, [256, 176], superBlock(16, 48));

/** 128 bytes of low and 64 of high bits, 16 signed scales, d: six bits an element, in parts of 16. */
const Q6_K = blocks('Q6_K', 14, [256, 210], (block, out, at) => {
  const d = half(block, 208);
  for (let element = 0; element < 256; element++) {
    const [side, quarter, i] = [element >> 7, (element >> 5) & 3, element & 31];
    const low = (block.getUint8(side * 64 + (quarter & 1) * 32 + i) >> ((quarter >> 1) * 4)) & 15;
    const high = (block.getUint8(128 + side * 32 + i) >> (quarter * 2)) & 3;
    const scale = block.getInt8(192 + (element >> 4));
    out[at + element] = d * scale * ((low | (high << 4)) - 32);
  }
});

const F32 = plain('F32', 0, 4);
const F16 = plain('F16', 1, 2);
const BF16 = plain('BF16', 30, 2);

export const BYTE_TYPES = [F32, F16, BF16, Q8_0, Q4_0, Q5_0, Q4_K, Q5_K, Q6_K] as const;

/** Types of others, for a message that says what a file has. */
const NAMES: Readonly<Record<number, string>> = {
  ...{ 3: 'Q4_1', 7: 'Q5_1', 9: 'Q8_1', 10: 'Q2_K', 11: 'Q3_K', 15: 'Q8_K', 16: 'IQ2_XXS', 17: 'IQ2_XS' },
  ...{
    18: 'IQ3_XXS',
    19: 'IQ1_S',
    20: 'IQ4_NL',
    21: 'IQ3_S',
    22: 'IQ2_S',
    23: 'IQ4_XS',
    24: 'I8',
    25: 'I16',
  },
  ...{ 26: 'I32', 27: 'I64', 28: 'F64', 29: 'IQ1_M', 34: 'TQ1_0', 35: 'TQ2_0', 39: 'MXFP4' },
};

/** The type of a number in a file, or what is wrong with it. */
export function ggmlType(id: number): GgmlType | string {
  const name = NAMES[id];
  return (
    BYTE_TYPES.find((type) => type.id === id) ??
    (name === undefined ? `unknown type ${id}` : `type ${name} is not read`)
  );
}

/** The types that are written. */
export const WRITTEN_TYPES = { F32, F16, BF16, Q8_0 } as const;

/**
 * Blocks of Q8_0 from values, a whole number of blocks, as llama.cpp makes them (quantize_row_q8_0_ref): the scale is the
 * largest magnitude over 127, values are rounded half away from zero, all in float32.
 * @returns false where a value is not finite or the scale is beyond float16
 */
export function quantizeQ8(values: Float32Array, out: Uint8Array): boolean {
  const view = new DataView(out.buffer, out.byteOffset, out.byteLength);
  for (let block = 0; block * 32 < values.length; block++) {
    let largest = 0;
    for (let i = 0; i < 32; i++) {
      const magnitude = Math.abs(values[block * 32 + i] ?? 0);
      if (!Number.isFinite(magnitude)) return false;
      if (magnitude > largest) largest = magnitude;
    }
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    const bits = floatToHalf(scale);
    if (bits === 0x7c00) return false;
    view.setUint16(block * 34, bits, true);
    for (let i = 0; i < 32; i++) {
      const scaled = Math.fround((values[block * 32 + i] ?? 0) * inverse);
      view.setInt8(block * 34 + 2 + i, Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5));
    }
  }
  return true;
}
