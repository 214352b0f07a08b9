import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { requireScoringMemory } from '../../../src/evaluation/scoring/memory.js';
import { RunError } from '../../../src/errors.js';
import { costs, presetConfig } from '../../../src/model/index.js';
import { stubEngine } from '../stub-model.js';

const test = suite('memory of scoring');

test('each of the ranks that divide a text needs room for its own keys and values only', () => {
  const config = presetConfig('nano', 'transformer');
  const choice = { name: 'nano', config };
  const tokens = 2 ** 20;
  const keys = tokens * costs(config).keyValueBytesPerToken(4);
  const engine = { ...stubEngine, availableBytes: () => 0.6 * keys };
  assert.throws(
    () => {
      requireScoringMemory(engine, choice, tokens);
    },
    (error: unknown) => error instanceof RunError && error.message.includes('1m tokens'),
  );
  requireScoringMemory(engine, choice, tokens, 2);
});

test.run();
