/** How ranks divide sequences of a pass: every position is on one of them, and attention alone is divided evenly. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Division, ownStretches } from '../../src/model/divided-runs.js';
import { SOLO } from '../../src/distributed/communicator.js';

const test = suite('model: divided runs');

const positionsOf = (rank: number, size: number, time: number, wanted: Division): number[] =>
  ownStretches(time, { ...SOLO, rank, size }, wanted).flatMap(({ from, count }) =>
    Array.from({ length: count }, (_, i) => from + i),
  );

test('every position is on one rank', () => {
  for (const size of [1, 2, 3, 4]) {
    for (const time of [1, 2, 6, 7]) {
      for (const wanted of ['slice', 'zigzag'] as const) {
        const all = Array.from({ length: size }, (_, rank) => positionsOf(rank, size, time, wanted));
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
      positionsOf(rank, size, 6, 'zigzag').reduce((sum, position) => sum + position + 1, 0),
    );
    assert.is(new Set(seen).size, 1, seen.join());
  }
});

test('states are handed on in the order of positions, and odd shares are not halved', () => {
  for (const [time, wanted] of [
    [6, 'slice'],
    [7, 'zigzag'],
  ] as const) {
    const [only, ...others] = ownStretches(time, { ...SOLO, rank: 1, size: 3 }, wanted);
    assert.equal(only, { from: time, count: time });
    assert.equal(others, []);
  }
});

test.run();
