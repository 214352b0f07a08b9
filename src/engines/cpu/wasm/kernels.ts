/** The kernels, assembled when they are first used. */
import { type CacheType, GROUP } from '../../../ops/attention/cache-type.js';
import { encodeModule } from './assembler.js';
import { floatCodec, floatOrder, floatScale } from './floats.js';
import { integerCodec, integerOrder } from './integers.js';
import { type Module, WebAssembly } from './webassembly.js';
import { kernelOf, resultFloats, type Shape } from './kernel.js';

/** Widths of heads are multiples of it, up to `MOST_WIDTH`; code for more queries than `MOST_QUERIES` would be too long. */
const [WIDTH_STEP, MOST_WIDTH, MOST_QUERIES] = [16, 256, 16];

export interface AttentionKernel {
  readonly shape: Shape;
  readonly module: Module;
  readonly resultFloats: number;
  /** Bytes that a thread needs beside. */
  readonly scratchBytes: number;
  /** Where element d of a query, and of its weighted values, lies; and the factor of both. */
  readonly queryOrder: Int32Array;
  readonly resultOrder: Int32Array;
  readonly factor: number;
}

/** Whether there is a kernel for a shape. */
export function hasAttentionKernel({ type, width, queries }: Shape): boolean {
  const isWidth = width % WIDTH_STEP === 0 && width <= MOST_WIDTH;
  return type !== 'float32' && isWidth && queries <= MOST_QUERIES;
}

/** @param maximum pages of 64 KiB of the memory that the kernel is going to work on */
export function attentionKernel(shape: Shape, maximum: number): AttentionKernel {
  const { type, width, queries } = shape;
  const order = (place: (d: number) => number): Int32Array =>
    Int32Array.from({ length: width }, (_, d) => place(d));
  const common = {
    shape,
    resultFloats: resultFloats(shape),
    scratchBytes: 4 * queries * (2 * GROUP + 2 * width) + 8 * GROUP,
  };
  const module = (codecOf: Parameters<typeof kernelOf>[1]): Module =>
    new WebAssembly.Module(encodeModule(kernelOf(shape, codecOf), maximum));
  if (isInteger(type))
    return {
      ...common,
      module: module((context) => integerCodec(context, type)),
      queryOrder: order((d) => d),
      resultOrder: order((d) => integerOrder(type, d)),
      factor: 1,
    };
  if (type === 'float32') throw new RangeError('float32 is not coded');
  const places = order((d) => floatOrder(type, d));
  const own = module((context) => floatCodec(context, type));
  return { ...common, module: own, queryOrder: places, resultOrder: places, factor: floatScale(type) };
}

function isInteger(type: CacheType): type is 'int8' | 'int4' {
  return type === 'int8' || type === 'int4';
}
