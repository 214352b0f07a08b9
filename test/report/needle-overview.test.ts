import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { needleOverview } from '../../src/report/needle-figures.js';
import type { Row } from '../../src/results/schema.js';

const test = suite('report: overview of needles');

test('the overview draws accuracy, time and memory of all models against context', () => {
  const row = (model: string, context: number): Row => ({
    ...{ model, architecture: 'yoco', self_decoder: null, haystack: 'h', variant: 'standard', needles: 1 },
    ...{ context, accuracy: 0.5, first_token_seconds: 2, peak_bytes: 2 ** 20 },
  });
  const svg = needleOverview([row('a', 1024), row('a', 4096), row('b', 1024), row('b', 4096)]) ?? '';
  for (const text of ['Needles found', 'Time to the first token of the answer', 'Peak memory', 'yoco b'])
    assert.ok(svg.includes(`>${text}</text>`), text);
  assert.is(svg.match(/<svg /g)?.length, 4);
  assert.is(needleOverview([row('a', 1024), row('b', 1024)]), null);
});

test('the overview keeps the settings of several models apart, those of one together', () => {
  const rows = (models: readonly string[]): Row[] =>
    models.flatMap((model) =>
      [1, 4].flatMap((needles) =>
        [1024, 4096].map((context) => ({
          ...{ model, architecture: 'yoco', self_decoder: null, haystack: 'h', variant: 'standard', needles },
          ...{ context, accuracy: 0.5, first_token_seconds: 2, peak_bytes: 2 ** 20 },
        })),
      ),
    );
  const several = needleOverview(rows(['a', 'b'])) ?? '';
  for (const text of ['Needles found: one needle', 'Needles found: one of 4 needles'])
    assert.ok(several.includes(`>${text}</text>`), text);
  assert.is(several.match(/<svg /g)?.length, 5);
  assert.is(several.match(/>yoco b<\/text>/g)?.length, 4);
  const one = needleOverview(rows(['a'])) ?? '';
  assert.is(one.match(/<svg /g)?.length, 4);
  assert.is(one.match(/>yoco, one of 4 needles<\/text>/g)?.length, 1);
});

test.run();
