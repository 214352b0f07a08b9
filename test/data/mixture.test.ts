import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseSources } from '../../src/data/mixture.js';
import { refuses } from '../checkpoint/scratch.js';

const test = suite('data/mixture');

test('texts without names are one source', () => {
  assert.equal(parseSources(['a.txt', 'b/*.jsonl']), [
    { name: null, paths: ['a.txt', 'b/*.jsonl'], weight: null },
  ]);
  // The end of a path is no weight where there is no name.
  assert.equal(parseSources(['C:3'])[0]?.paths, ['C:3']);
});

test('sources have names, files and weights', () => {
  assert.equal(parseSources(['books=a.txt:2', 'docs=C:\\b.txt:.5', 'books=c=d:e.txt:2.0']), [
    { name: 'books', paths: ['a.txt', 'c=d:e.txt'], weight: 2 },
    { name: 'docs', paths: ['C:\\b.txt'], weight: 0.5 },
  ]);
  assert.equal(parseSources(['x=a.txt', 'y=b.txt']), [
    { name: 'x', paths: ['a.txt'], weight: null },
    { name: 'y', paths: ['b.txt'], weight: null },
  ]);
  // A weight given once is that of all its files.
  assert.is(parseSources(['x=a:3', 'x=b'])[0]?.weight, 3);
});

test('what leaves the mixture open is refused', () => {
  refuses(() => parseSources(['a.txt', 'x=b.txt']), /'a\.txt' has no name beside 'x': write NAME=PATH/);
  refuses(() => parseSources(['x=a:1', 'y=b']), /source 'y' has no weight, but 'x' has/);
  refuses(() => parseSources(['x=a:1', 'x=b:2']), /source 'x' has the weights 1 and 2/);
  refuses(() => parseSources(['x=a:0']), /the weight of a source must be a positive number/);
});

test.run();
