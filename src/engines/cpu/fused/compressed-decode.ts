/**
 * Attention of a single query per sequence over codes that the WebAssembly kernels do not take: each block is decoded by the
 * reference, one thread at work, and then read as float32 keys and values are.
 */
import { GROUP } from '../../../ops/attention/cache-type.js';
import { decodeGroup, groupOf } from '../../../ops/attention/codes.js';
import type { CodeArrays } from '../../../ops/attention/code-page.js';
import type { CpuBackend } from '../backend.js';
import type { CodedContext } from './coded-tasks.js';
import { attendToBlock, type Softmax } from './paged-decode.js';

/** Elements of a block as float32: those of keys and values together stay in the cache. */
const BLOCK_ELEMENTS = 2 ** 18;

export function attendToPages(backend: CpuBackend, context: CodedContext, softmax: Softmax): void {
  const { pages, groups, heads, width } = context;
  const most = Math.max(1, Math.floor(BLOCK_ELEMENTS / (GROUP * width)));
  for (let head = 0; head < heads; head++)
    for (const [i, page] of pages.entries()) {
      const own = Math.min(page.pageGroups, groups - i * page.pageGroups);
      for (let first = 0; first < own; first += most)
        attendToGroups(backend, context, { head, page, first, count: Math.min(most, own - first) }, softmax);
    }
}

interface Groups {
  readonly head: number;
  readonly page: CodeArrays;
  readonly first: number;
  readonly count: number;
}

function attendToGroups(
  backend: CpuBackend,
  { type, heads, width, queries }: CodedContext,
  { head, page, first, count }: Groups,
  softmax: Softmax,
): void {
  const group = queries.length / (heads * width);
  const size = count * GROUP * width;
  backend.withScratch([size, size], ([keys, values]) => {
    for (const [kind, rows] of [
      ['key', keys],
      ['value', values],
    ] as const)
      for (let i = 0; i < count; i++) {
        const words = { codes: page[`${kind}Codes`], scales: page[`${kind}Scales`] };
        const at = { head, group: first + i, pageGroups: page.pageGroups, width };
        const part = rows.subarray(i * GROUP * width, (i + 1) * GROUP * width);
        decodeGroup(type, kind, groupOf(type, kind, words, at), part);
      }
    const own = queries.subarray(head * group * width, (head + 1) * group * width);
    const block = { head, heads: 1, from: 0, count, rows: GROUP, group, width };
    attendToBlock(backend, { ...block, queries: own, keys, values }, softmax);
  });
}
