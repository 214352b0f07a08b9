/** Tests that cannot run here, counted by reason: uvu forgets the titles of those it skips. */
import type { Test } from 'uvu';

const counts = new Map<string, number>();

/** Skips a test and remembers why; the runner prints every reason once. */
export function skipBecause(reason: string, test: Test, title: string): void {
  counts.set(reason, (counts.get(reason) ?? 0) + 1);
  test.skip(title);
}

/** The reasons since the last call, each with its number of tests. */
export function takeSkips(): [reason: string, count: number][] {
  const taken = [...counts];
  counts.clear();
  return taken;
}
