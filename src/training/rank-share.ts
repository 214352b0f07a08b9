/** What a rank takes of a batch, and what comes together of all ranks. */
import type { Communicator } from '../distributed/communicator.js';
import { RunError, UsageError } from '../errors.js';
import { addSums, noLosses, type LossSums } from './step.js';
import type { Batch, Stage } from './task.js';

/** @throws UsageError where the rows of a batch cannot be dealt out evenly */
export function requireEvenRows(stages: readonly Stage[], size: number): void {
  const uneven = stages.find(({ batch }) => batch % size !== 0);
  if (uneven === undefined) return;
  throw new UsageError(
    `a batch of ${uneven.batch} sequences cannot be dealt out to ${size} ranks evenly: use a multiple of ${size} for --batch`,
  );
}

/** The rows of a batch that this rank computes: as many as every other, in the order of ranks. */
export function rowsOfRank(batch: Batch, { rank, size }: Pick<Communicator, 'rank' | 'size'>): Batch {
  if (size === 1) return batch;
  const rows = batch.rows / size;
  if (!Number.isInteger(rows)) throw new RangeError(`${batch.rows} rows for ${size} ranks`);
  const part = <T extends Int32Array | Float32Array | Uint8Array>(values: T): T => {
    const count = values.length / size;
    return values.slice(rank * count, (rank + 1) * count) as T;
  };
  return {
    rows,
    length: batch.length,
    tokens: part(batch.tokens),
    targets: part(batch.targets),
    positions: batch.positions && batch.positions.slice(rank * rows, (rank + 1) * rows),
    weights: batch.weights && part(batch.weights),
    answers: batch.answers && part(batch.answers),
    ...(batch.repeated === undefined ? {} : { repeated: part(batch.repeated) }),
  };
}

/** A step's losses over all ranks, and whether any of them is to stop. */
export function gatherStep(
  communicator: Communicator,
  losses: LossSums,
  stopping: boolean,
): { losses: LossSums; stopping: boolean } {
  if (communicator.size === 1) return { losses, stopping };
  const all = communicator.gather({ sums: encoded(losses), stopping }) as {
    sums: Encoded;
    stopping: boolean;
  }[];
  const total = noLosses();
  for (const { sums } of all) addSums(total, decoded(sums));
  return { losses: total, stopping: all.some((rank) => rank.stopping) };
}

/**
 * The losses of batches of which every rank measures each `size`th, in the order of the batches: what is added up from them is
 * the same for any number of ranks.
 */
export async function dealtLosses<B extends Batch>(
  communicator: Communicator,
  batches: Iterable<B>,
  measure: (batch: B) => Promise<LossSums>,
): Promise<LossSums[]> {
  const own: [index: number, sums: Encoded][] = [];
  let count = 0;
  for (const batch of batches) {
    if (count % communicator.size === communicator.rank) own.push([count, encoded(await measure(batch))]);
    count += 1;
  }
  const all = (communicator.gather(own) as (typeof own)[]).flat().sort(([a], [b]) => a - b);
  if (all.length !== count) throw new RunError(`${all.length} of ${count} held-out batches were measured`);
  return all.map(([, sums]) => decoded(sums));
}

/** Ranks exchange JSON, which has neither NaN nor infinity. */
type Encoded = readonly (number | null)[];

const FIELDS = Object.keys(noLosses()) as (keyof LossSums)[];

function encoded(sums: LossSums): Encoded {
  return FIELDS.map((field) => (Number.isFinite(sums[field]) ? sums[field] : null));
}

function decoded(values: Encoded): LossSums {
  const sums = noLosses();
  FIELDS.forEach((field, i) => (sums[field] = values[i] ?? NaN));
  return sums;
}
