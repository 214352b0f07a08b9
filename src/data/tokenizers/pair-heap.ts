/**
 * A binary max-heap of token pairs by count; among equal counts the pair with the smaller key comes first, so that
 * training gives the same merges everywhere. Keys and counts are numbers; a pair may be in the heap several times.
 */
export class PairHeap {
  private keys: number[] = [];
  private counts: number[] = [];

  get size(): number {
    return this.keys.length;
  }

  push(key: number, count: number): void {
    let at = this.keys.push(key) - 1;
    this.counts.push(count);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(at, parent)) return;
      this.swap(at, parent);
      at = parent;
    }
  }

  pop(): { key: number; count: number } | undefined {
    const [key] = this.keys;
    const [count] = this.counts;
    if (key === undefined || count === undefined) return undefined;
    this.swap(0, this.size - 1);
    this.keys.pop();
    this.counts.pop();
    this.sink();
    return { key, count };
  }

  private sink(): void {
    for (let at = 0; ;) {
      const left = 2 * at + 1;
      if (left >= this.size) return;
      const child = left + 1 < this.size && this.before(left + 1, left) ? left + 1 : left;
      if (!this.before(child, at)) return;
      this.swap(at, child);
      at = child;
    }
  }

  private before(a: number, b: number): boolean {
    const difference = (this.counts[a] as number) - (this.counts[b] as number);
    return difference > 0 || (difference === 0 && (this.keys[a] as number) < (this.keys[b] as number));
  }

  private swap(a: number, b: number): void {
    const { keys, counts } = this;
    [keys[a], keys[b]] = [keys[b] as number, keys[a] as number];
    [counts[a], counts[b]] = [counts[b] as number, counts[a] as number];
  }
}
