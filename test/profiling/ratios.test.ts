import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { computedMemory } from '../../src/profiling/memory.js';
import { MEMORY_RATIOS, MEMORY_SCHEMA, PREFILL_SCHEMA } from '../../src/profiling/tables.js';
import { pairRows, ratioTable } from '../../src/profiling/ratios.js';
import { modelKey, type ModelChoice } from '../../src/sweep/model-key.js';
import { presetConfig } from '../../src/model/presets.js';
import type { Row } from '../../src/results/schema.js';
import { rowOf } from '../../src/results/typed.js';

const test = suite('ratios');

const MILLION = 1048576;
const choice = (name: string, architecture: 'yoco' | 'transformer'): ModelChoice => ({
  name,
  config: presetConfig(name, architecture),
});

function memoryRatios(choices: ModelChoice[], bytesPerElement: number): Row {
  const rows = choices.map((model) =>
    rowOf(MEMORY_SCHEMA, {
      ...modelKey(model),
      context: MILLION,
      ...computedMemory(model.config, MILLION, { bytesPerElement, chunkSize: 32768 }),
    }),
  );
  return ratioTable(MEMORY_SCHEMA, rows, MEMORY_RATIOS).rows[0] ?? {};
}

test("the paper's 80 times smaller K/V cache of a 65B model follows from the configurations", () => {
  const ratios = memoryRatios([choice('65b', 'yoco'), choice('65b', 'transformer')], 2);
  assert.is(ratios.kv_cache_ratio, 80);
});

test("the paper's 9.4 times less memory at a million tokens (3B) follows, with the official cache's copy", () => {
  const ratios = memoryRatios([choice('yoco-3b', 'yoco'), choice('transformer-3b', 'transformer')], 2);
  assert.is(Number(ratios.total_concatenated_ratio).toFixed(1), '9.4');
  assert.is(Number(ratios.total_ratio).toFixed(1), '9.1');
  assert.is(ratios.transformer, 'transformer-3b');
});

test('rows are paired within their cell, with the Transformer of the same name or the only one', () => {
  const row = (model: string, architecture: string, context: number, early: boolean): Row => ({
    model,
    architecture,
    self_decoder: architecture === 'yoco' ? 'gated-retention' : null,
    early_exit: early,
    context,
  });
  const rows = [
    row('tiny', 'yoco', 1, true),
    row('nano', 'yoco', 1, true),
    row('nano', 'yoco', 1, false),
    row('nano', 'transformer', 1, true),
    row('nano', 'transformer', 2, true),
  ];
  const pairs = pairRows(PREFILL_SCHEMA, rows);
  assert.equal(
    pairs.map(({ yoco, transformer }) => [yoco.model, transformer.model, transformer.context]),
    [
      ['tiny', 'nano', 1],
      ['nano', 'nano', 1],
    ],
  );
  const two = [...rows, row('pico', 'transformer', 1, true)];
  assert.is(pairRows(PREFILL_SCHEMA, two).length, 1, 'tiny has no partner when there are several');
});

test.run();
