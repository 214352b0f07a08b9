/** Keys and values in a compressed cache: appended step by step, attended to by the last queries. */
import { type CacheType, CompressedPages, compressedAttention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import type { KernelCase } from './contract.js';

interface Compressed {
  readonly batch: number;
  /** Positions appended, step by step; the queries are those of the last step. */
  readonly steps: readonly number[];
  readonly heads: number;
  readonly kvHeads: number;
  readonly width: number;
  readonly pageSize: number;
}

const ONES = (count: number): number[] => Array.from({ length: count }, () => 1);

/** Of widths that every engine takes; groups have 64 positions. */
const SHARED: readonly Compressed[] = [
  { batch: 1, steps: [1], heads: 2, kvHeads: 1, width: 32, pageSize: 64 },
  { batch: 2, steps: [200, 1], heads: 4, kvHeads: 2, width: 32, pageSize: 128 },
  { batch: 1, steps: [190, ...ONES(5)], heads: 3, kvHeads: 1, width: 64, pageSize: 64 },
  { batch: 1, steps: [100, 93], heads: 2, kvHeads: 2, width: 32, pageSize: 64 },
  { batch: 2, steps: [64, 3, 70], heads: 4, kvHeads: 1, width: 64, pageSize: 4096 },
];
const LARGE: readonly Compressed[] = [
  { batch: 1, steps: [3000, 1], heads: 8, kvHeads: 2, width: 128, pageSize: 1024 },
  { batch: 1, steps: [700, 600], heads: 4, kvHeads: 2, width: 128, pageSize: 256 },
];
const OTHERS: readonly Compressed[] = [
  { batch: 1, steps: [130, 1], heads: 2, kvHeads: 1, width: 8, pageSize: 64 },
  { batch: 1, steps: [65, 66], heads: 3, kvHeads: 3, width: 40, pageSize: 128 },
];

const NO_WEBGPU = 'it keeps no compressed caches';
const NO_CUDA = 'it keeps compressed caches in float8, int8 and int4, of heads of 32, 64 and 128';

function compressedCase(
  type: CacheType,
  sizes: Compressed,
  except: KernelCase['except'],
  large = false,
): KernelCase {
  const { batch, steps, heads, kvHeads, width, pageSize } = sizes;
  const length = steps.reduce((sum, count) => sum + count, 0);
  const queries = steps.at(-1) ?? 1;
  return {
    name: `compressedAttention, ${type}, ${queries} of ${length} positions, heads of ${width}, pages of ${pageSize}`,
    large,
    except,
    // A code may be another where a number is half-way between two.
    tolerance: { float32: 2e-4, bfloat16: 3e-2, float16: 1e-2 },
    inputs: (make) => {
      const kv = [batch, length, kvHeads, width];
      return [make.normal([batch, queries, heads, width], 1.5), make.normal(kv, 1, 0.5), make.normal(kv)];
    },
    compute: (q, k, v) => {
      const pages = new CompressedPages(type, { batch, kvHeads, headDim: width, pageSize });
      let start = 0;
      for (const count of steps) {
        const part = (x: tf.Tensor) =>
          tf.slice(x as tf.Tensor4D, [0, start, 0, 0], [batch, count, kvHeads, width]);
        pages.append(part(k), part(v));
        start += count;
      }
      const out = compressedAttention(q as tf.Tensor4D, pages);
      pages.dispose();
      return [out];
    },
  };
}

const INTEGERS = ['float8', 'int8', 'int4'] as const;
const HALVES = ['float16', 'bfloat16'] as const;

export const COMPRESSED_CASES: readonly KernelCase[] = [
  ...INTEGERS.flatMap((type) => SHARED.map((sizes) => compressedCase(type, sizes, { webgpu: NO_WEBGPU }))),
  ...INTEGERS.flatMap((type) =>
    LARGE.map((sizes) => compressedCase(type, sizes, { webgpu: NO_WEBGPU }, true)),
  ),
  ...HALVES.flatMap((type) =>
    SHARED.slice(1, 4).map((sizes) => compressedCase(type, sizes, { webgpu: NO_WEBGPU, cuda: NO_CUDA })),
  ),
  ...[...INTEGERS, ...HALVES].flatMap((type) =>
    OTHERS.map((sizes) => compressedCase(type, sizes, { webgpu: NO_WEBGPU, cuda: NO_CUDA })),
  ),
];
