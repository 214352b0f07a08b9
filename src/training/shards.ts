/**
 * How parameters are dealt out to ranks: in buckets of whole parameters, one after the other, and of each bucket an equal piece to
 * every rank. A bucket is what one collective moves.
 */
import { elements } from '../model/parameters.js';

/** Elements of a bucket, at most, unless one parameter has more: 64 MiB in float32. */
const BUCKET_ELEMENTS = 2 ** 24;

export interface Placed {
  readonly name: string;
  readonly shape: readonly number[];
  /** Elements before it in its bucket. */
  readonly offset: number;
  readonly size: number;
}

export interface Bucket {
  readonly parameters: readonly Placed[];
  /** Of matrices; vectors do not decay. All of a bucket are of one kind. */
  readonly decays: boolean;
  /** Elements of its parameters. */
  readonly size: number;
  /** Elements of each rank: `size` padded to a multiple of the ranks, divided by them. */
  readonly piece: number;
}

/** Deals out parameters, in their order, to `ranks` ranks. */
export function planBuckets(
  parameters: Iterable<readonly [name: string, { readonly shape: readonly number[] }]>,
  ranks: number,
  bucketElements = BUCKET_ELEMENTS,
): Bucket[] {
  const open = new Map<boolean, Placed[]>();
  const buckets: Bucket[] = [];
  const close = (decays: boolean): void => {
    const placed = open.get(decays) ?? [];
    const size = placed.reduce((sum, parameter) => sum + parameter.size, 0);
    if (size > 0) buckets.push({ parameters: placed, decays, size, piece: Math.ceil(size / ranks) });
    open.set(decays, []);
  };
  for (const [name, { shape }] of parameters) {
    const decays = shape.length > 1;
    const size = elements(shape);
    const used = (open.get(decays) ?? []).reduce((sum, parameter) => sum + parameter.size, 0);
    if (used > 0 && used + size > bucketElements) close(decays);
    const placed = open.get(decays) ?? [];
    const last = placed.at(-1);
    placed.push({ name, shape, offset: last === undefined ? 0 : last.offset + last.size, size });
    open.set(decays, placed);
  }
  close(true);
  close(false);
  return buckets;
}
