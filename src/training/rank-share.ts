/** What a rank takes of a batch, and what comes together of all ranks. */
import { SOLO, type Communicator } from '../distributed/communicator.js';
import { requireDividing } from '../distributed/ranks.js';
import { RunError, UsageError } from '../errors.js';
import type { Stretch } from '../model/divided-runs.js';
import type { LanguageModel } from '../model/language-model.js';
import { addSums, noLosses, type LossSums } from './step.js';
import type { Batch, Stage } from './task.js';

/** How the ranks of a run divide its batches: groups of them divide sequences, and the groups divide rows. */
export interface RankGrid {
  readonly world: Communicator;
  /** Which group this rank is in, of how many. */
  readonly data: Pick<Communicator, 'rank' | 'size'>;
  /** The ranks of the group. */
  readonly sequence: Communicator;
}

/**
 * @param perSequence neighbouring ranks that divide a sequence
 * @throws UsageError where the ranks do not make whole groups
 */
export function rankGrid(world: Communicator, perSequence = 1): RankGrid {
  const { size } = world;
  if (size === 1) requireDividing(null, perSequence);
  if (size % perSequence !== 0) {
    throw new UsageError(
      `${size} ranks cannot divide sequences between ${perSequence} each (--context-parallel): use a divisor of ${size}`,
    );
  }
  const data = {
    get rank() {
      return Math.floor(world.rank / perSequence);
    },
    get size() {
      return world.size / perSequence;
    },
  };
  if (perSequence === 1) return { world, data, sequence: SOLO };
  return { world, data, sequence: data.size === 1 ? world : world.split(data.rank) };
}

/** @throws UsageError where the rows of a batch, or the tokens of a sequence, cannot be dealt out evenly */
export function requireEvenShares(stages: readonly Stage[], { data, sequence }: RankGrid): void {
  const uneven = stages.find(({ batch }) => batch % data.size !== 0);
  if (uneven !== undefined) {
    const groups = sequence.size === 1 ? 'ranks' : `groups of ${sequence.size} ranks`;
    throw new UsageError(
      `a batch of ${uneven.batch} sequences cannot be dealt out to ${data.size} ${groups} evenly: use a multiple of ${data.size} for --batch`,
    );
  }
  for (const { length } of stages) requireEvenLength(length, sequence);
}

function requireEvenLength(length: number, { size }: Pick<Communicator, 'size'>): void {
  if (length % size === 0) return;
  throw new UsageError(
    `sequences of ${length} tokens cannot be divided between ${size} ranks evenly: use a multiple of ${size} for --length`,
  );
}

/** The rows of a batch that this rank's group computes: as many as every other, in the order of groups. */
export function rowsOfGroup(batch: Batch, { data: { rank, size } }: RankGrid): Batch {
  if (size === 1) return batch;
  const rows = batch.rows / size;
  if (!Number.isInteger(rows)) throw new RangeError(`${batch.rows} rows for ${size} groups of ranks`);
  const part = <T extends Values>(values: T): T => {
    const count = values.length / size;
    return values.slice(rank * count, (rank + 1) * count) as T;
  };
  const positions = batch.positions && batch.positions.slice(rank * rows, (rank + 1) * rows);
  return { ...changed(batch, part), rows, positions };
}

/**
 * The columns of a batch that this rank computes with its model.
 * @throws UsageError for a batch with losses at chosen positions, or of a length that is no multiple
 */
export function columnsOfRank<B extends Batch>(
  batch: B,
  { size }: Pick<Communicator, 'size'>,
  model: Pick<LanguageModel, 'stretches'>,
): B {
  if (size === 1) return batch;
  if (batch.positions !== null) {
    throw new UsageError(
      'a stage with losses of answers only (answersOnly) cannot divide sequences between ranks (--context-parallel)',
    );
  }
  requireEvenLength(batch.length, { size });
  const length = batch.length / size;
  const { tokens, targets } = model.stretches(batch.length);
  const part = <T extends Values>(values: T, stretches: readonly Stretch[] = targets): T => {
    const own = new (values.constructor as new (count: number) => T)(batch.rows * length);
    let filled = 0;
    for (let row = 0; row < batch.rows; row++) {
      for (const { from, count } of stretches) {
        const start = row * batch.length + from;
        own.set(values.subarray(start, start + count), filled);
        filled += count;
      }
    }
    return own;
  };
  return { ...changed(batch, part), tokens: part(batch.tokens, tokens), length };
}

type Values = Int32Array | Float32Array | Uint8Array;

/** A batch with a part of everything that it has for each target. */
function changed<B extends Batch>(batch: B, part: <T extends Values>(values: T) => T): B {
  const { repeated, weights, answers } = batch;
  return {
    ...batch,
    tokens: part(batch.tokens),
    targets: part(batch.targets),
    weights: weights && part(weights),
    answers: answers && part(answers),
    ...(repeated === undefined ? {} : { repeated: part(repeated) }),
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
 * The losses of batches of which every group of ranks measures one in turn, in the order of the batches: what is added up from
 * them is the same for any number of groups.
 * @param measure of this rank's columns of a batch
 */
export async function dealtLosses<B extends Batch>(
  { world, data, sequence }: RankGrid,
  model: Pick<LanguageModel, 'stretches'>,
  batches: Iterable<B>,
  measure: (batch: B) => Promise<LossSums>,
): Promise<LossSums[]> {
  const own: [index: number, sums: Encoded][] = [];
  let count = 0;
  for (const batch of batches) {
    if (count % data.size === data.rank) {
      own.push([count, encoded(await measure(columnsOfRank(batch, sequence, model)))]);
    }
    count += 1;
  }
  const measured = Array.from({ length: count }, noLosses);
  const parts = measured.map(() => 0);
  for (const [index, sums] of (world.gather(own) as (typeof own)[]).flat()) {
    const sum = measured[index];
    if (sum === undefined) throw new RunError(`rank 0 has ${count} held-out batches, another rank more`);
    addSums(sum, decoded(sums));
    parts[index] = (parts[index] ?? 0) + 1;
  }
  const missing = parts.filter((found) => found !== sequence.size).length;
  if (missing > 0) throw new RunError(`${missing} of ${count} held-out batches were not measured`);
  return measured;
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
