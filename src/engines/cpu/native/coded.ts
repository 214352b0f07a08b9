/** Attention of a single query per sequence to codes, by the kernels in C: they read the codes where they lie. */
import type { CacheType } from '../../../ops/attention/cache-type.js';
import type { CodedContext } from '../fused/coded-tasks.js';
import { mergeAll, type Softmax } from '../fused/paged-decode.js';
import type { Native } from './library.js';

/** As `sources/coded.c` numbers them. */
const CODED: readonly CacheType[] = ['bfloat16', 'float16', 'float8', 'int8', 'int4'];

/** Takes all codes into the softmax, whatever the shape. */
export function attendToCodes(native: Native, context: CodedContext, softmax: Softmax): void {
  const { type, pages, groups, heads, width, queries } = context;
  const [first] = pages;
  if (!first) return;
  const rows = queries.length / width;
  const addresses = (['keyCodes', 'valueCodes', 'keyScales', 'valueScales'] as const).map((name) =>
    BigUint64Array.from(pages, (page) => (page[name].length === 0 ? 0n : native.address(page[name]))),
  );
  const [maximum, sum] = [new Float32Array(rows), new Float32Array(rows)];
  const weighted = new Float32Array(queries.length);
  const shape = [CODED.indexOf(type), heads, rows / heads, width, first.pageGroups, groups];
  native.coded_attention(queries, ...addresses, maximum, sum, weighted, ...shape);
  mergeAll(softmax, 0, width, { maximum, sum, weighted });
}
