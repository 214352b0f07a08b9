/** Which rank keeps the keys and values of which positions. Every rank notes it of all, so that all decide alike. */

/** Short runs are kept by one rank for so many positions, then by the next. */
export const SHORT_RUNS = 256;

interface Run {
  readonly start: number;
  readonly count: number;
  readonly rank: number;
}

export class KeptPositions {
  private runs: Run[] = [];
  private readonly counts: number[];

  constructor(private readonly size: number) {
    this.counts = new Array<number>(size).fill(0);
  }

  /** Positions of all ranks. */
  get total(): number {
    return this.counts.reduce((sum, count) => sum + count, 0);
  }

  /** Positions that the rank keeps. */
  of(rank: number): number {
    return this.counts[rank] ?? 0;
  }

  /** The rank that keeps a short run from this position on. */
  keeperAt(position: number): number {
    return Math.floor(position / SHORT_RUNS) % this.size;
  }

  add(run: Run): void {
    const last = this.runs.at(-1);
    this.counts[run.rank] = this.of(run.rank) + run.count;
    if (last?.rank === run.rank && last.start + last.count === run.start) {
      this.runs[this.runs.length - 1] = { ...last, count: last.count + run.count };
    } else {
      this.runs.push(run);
    }
  }

  /** Makes the last run longer or shorter, so that there are `total` positions. */
  resize(total: number): void {
    const change = total - this.total;
    const last = this.runs.at(-1);
    if (last === undefined || last.count + change < 0) {
      throw new RangeError(`the last run of ${last?.count ?? 0} positions cannot change by ${change}`);
    }
    this.runs[this.runs.length - 1] = { ...last, count: last.count + change };
    this.counts[last.rank] = this.of(last.rank) + change;
  }

  /** Forgets the positions from `length` on. */
  rewind(length: number): void {
    this.runs = this.runs.flatMap(({ start, count, rank }) =>
      start < length ? [{ start, count: Math.min(count, length - start), rank }] : [],
    );
    this.counts.fill(0);
    for (const { rank, count } of this.runs) this.counts[rank] = this.of(rank) + count;
  }

  copy(): KeptPositions {
    const copy = new KeptPositions(this.size);
    for (const run of this.runs) copy.add(run);
    return copy;
  }
}
