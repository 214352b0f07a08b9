/** A decoding step over a compressed cache by the kernels in C, which read codes where they lie; in a form that can be recorded. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { type CacheType, GROUP, RECENT } from '../../../ops/attention/cache-type.js';
import { encodeRows } from '../../../ops/attention/code-page.js';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import type { CodedContext } from '../fused/coded-tasks.js';
import { arraysOf, compressedAttention as severalQueries } from '../fused/compressed-attention.js';
import { writeRows } from '../fused/pages.js';
import type { Native } from './library.js';

/** As `sources/coded.c` numbers them. */
const CODED: readonly CacheType[] = ['bfloat16', 'float16', 'float8', 'int8', 'int4'];

/** Keys and values as computed, [heads, rows, width], of which a query sees `count` from row `from` on. */
export interface Computed {
  readonly keys: Floats;
  readonly values: Floats;
  readonly rows: number;
  readonly from: number;
  readonly count: number;
}

/** What the positions of a step decide. */
interface Reach {
  readonly groups: number;
  readonly from: number;
  readonly count: number;
}

/** A function that attends, to be called any number of times while memory stays where it is. */
function attention(
  native: Native,
  { type, pages, heads, width, queries }: Omit<CodedContext, 'groups'>,
  raw: Pick<Computed, 'keys' | 'values' | 'rows'>,
  out: Floats,
): (reach: Reach, scale: number) => void {
  const group = queries.length / (heads * width);
  const addresses = (['keyCodes', 'valueCodes', 'keyScales', 'valueScales'] as const).map((name) =>
    BigUint64Array.from(pages, (page) => (page[name].length === 0 ? 0n : native.address(page[name]))),
  );
  const shape = [CODED.indexOf(type), heads, group, width, pages[0]?.pageGroups ?? 1];
  return ({ groups, from, count }, scale) => {
    const memory = [queries, ...addresses, raw.keys, raw.values, out];
    native.coded_attention(...memory, ...shape, groups, raw.rows, from, count, scale);
  };
}

/** Attends to all codes and to `raw`, whatever the shape. @param out [heads, group, width] */
export function attendToCodes(native: Native, context: CodedContext, raw: Computed, out: Floats): void {
  attention(native, context, raw, out)({ groups: context.groups, ...raw }, 1);
}

export const compressedAttention =
  (native: Native): FusedKernel<'CompressedAttention', CpuBackend> =>
  (inputs, attrs, backend) => {
    const tensor = (name: string): TensorInfo => inputs[name] as TensorInfo;
    const [q, rawKeys, rawValues] = [tensor('q'), tensor('rawKeys'), tensor('rawValues')];
    const [batch, time, , width] = q.shape as [number, number, number, number];
    if (time !== 1) {
      backend.refuseRecording('CompressedAttention');
      return severalQueries(inputs, attrs, backend);
    }
    const { type, length, pageSize, scale, rawStart, isRing } = attrs;
    const [, kvHeads, rows] = rawKeys.shape as [number, number, number];
    const coded = Math.floor((length - 1) / GROUP) * GROUP;
    const pages = Array.from({ length: Math.ceil(coded / pageSize) }, (_, i) => arraysOf(backend, inputs, i));
    const out = backend.output(q.shape);
    const context = { type, pages, heads: batch * kvHeads, width, queries: backend.floats(q) };
    const raw = { keys: backend.floats(rawKeys), values: backend.floats(rawValues), rows };
    const attend = attention(native, context, raw, backend.floats(out));
    if (!isRing) backend.refuseRecording('CompressedAttention of a prompt');
    backend.launch((moved) => {
      const to = length + moved;
      const newest = Math.floor((to - 1) / GROUP) * GROUP;
      const from = isRing ? newest % RECENT : newest - rawStart;
      attend({ groups: newest / GROUP, from, count: to - newest }, scale);
    });
    return [out];
  };

export const compressedWrite: FusedKernel<'CompressedWrite', CpuBackend> = (inputs, attrs, backend) => {
  const { recentKeys, recentValues, keys, values, keyCodes } = inputs;
  const { type, pageSize } = attrs;
  const shape = recentKeys.shape as [number, number, number, number];
  const recent = { key: backend.mutableFloats(recentKeys), value: backend.mutableFloats(recentValues) };
  const own = { key: backend.floats(keys), value: backend.floats(values) };
  const page = keyCodes && arraysOf(backend, inputs, '');
  backend.launch((moved) => {
    const position = attrs.position + moved;
    const before = position - GROUP;
    if (page && before >= 0 && position % GROUP === 0)
      encodeRows(page, recent, shape, { type, row: before % RECENT, group: (before % pageSize) / GROUP, count: 1 }); // prettier-ignore
    const row = { position: position % RECENT, start: 0, count: 1 };
    for (const kind of ['key', 'value'] as const)
      writeRows(own[kind], recent[kind], { page: shape, time: 1 }, row);
  });
  return [];
};
