/** How ranks divide sequences of a pass: every position is on one of them, and attention alone is divided evenly. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ownStretches } from '../../src/model/divided-runs.js';
import { SOLO } from '../../src/distributed/communicator.js';

const test = suite('model: divided runs');

const positionsOf = (rank: number, size: number, time: number, attendsOnly: boolean): number[] =>
  ownStretches(time, { ...SOLO, rank, size }, attendsOnly).flatMap(({ from, count }) =>
    Array.from({ length: count }, (_, i) => from + i),
  );

test('every position is on one rank', () => {
  for (const size of [1, 2, 3, 4]) {
    for (const time of [1, 2, 6, 7]) {
      for (const attendsOnly of [false, true]) {
        const all = Array.from({ length: size }, (_, rank) => positionsOf(rank, size, time, attendsOnly));
        for (const own of all) assert.is(own.length, time);
        const sorted = all.flat().sort((a, b) => a - b);
        assert.equal(
          sorted,
          sorted.map((_, i) => i),
        );
      }
    }
  }
});

test('where attention alone mixes positions, all ranks see as many keys', () => {
  for (const size of [2, 3, 4]) {
    const seen = Array.from({ length: size }, (_, rank) =>
      positionsOf(rank, size, 6, true).reduce((sum, position) => sum + position + 1, 0),
    );
    assert.is(new Set(seen).size, 1, seen.join());
  }
});

test('states are handed on in the order of positions, and odd shares are not halved', () => {
  for (const [time, attendsOnly] of [
    [6, false],
    [7, true],
  ] as const) {
    const [only, ...others] = ownStretches(time, { ...SOLO, rank: 1, size: 3 }, attendsOnly);
    assert.equal(only, { from: time, count: time });
    assert.equal(others, []);
  }
});

test.run();
