import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isMemoryError, OutOfMemoryError, RunError } from '../../src/errors.js';
import { costs } from '../../src/model/costs.js';
import { presetConfig } from '../../src/model/index.js';
import { limits } from '../../src/ops/limits.js';
import {
  bytesOfBatch,
  chunkOfBatch,
  largestBatch,
  MOST_SEQUENCES,
  withinMemory,
} from '../../src/profiling/batch-size.js';

const test = suite('batch that fits in memory');

const GPU = 132e9;
const CONFIGS = [presetConfig('yoco-3b', 'yoco'), presetConfig('transformer-3b', 'transformer')];

test('the largest batch fits with a tenth to spare, and one sequence more does not', () => {
  for (const config of CONFIGS) {
    for (const context of [32768, 131072, 524288]) {
      const batch = largestBatch(config, context, 2, GPU);
      assert.ok(bytesOfBatch(config, context, batch, 2) <= 0.9 * GPU, `${context}: ${batch}`);
      if (batch === MOST_SEQUENCES) continue;
      assert.ok(bytesOfBatch(config, context, batch + 1, 2) > 0.9 * GPU);
      const keyValue = batch * context * costs(config).keyValueBytesPerToken(2);
      assert.ok(keyValue > 0.4 * GPU, `${context}: keys and values of ${batch} take ${keyValue}`);
    }
  }
  const [yoco, transformer] = CONFIGS.map((config) => largestBatch(config, 131072, 2, GPU));
  assert.ok(Number(yoco) > 10 * Number(transformer), `${yoco} against ${transformer}`);
});

test('nothing fits: one sequence, which whoever measures refuses', () => {
  for (const config of CONFIGS) assert.is(largestBatch(config, 2 ** 30, 2, GPU), 1);
});

test('chunks of all sequences together have the size of one', () => {
  const [config = presetConfig('tiny', 'yoco')] = CONFIGS;
  const { chunkBytes } = limits;
  limits.chunkBytes = 4096 * 4 * (2 * config.dim + 3 * config.hiddenDim);
  try {
    assert.is(chunkOfBatch(config, 1), 4096);
    assert.is(chunkOfBatch(config, 4), 1024);
    assert.is(chunkOfBatch(config, 7), 512);
    assert.is(chunkOfBatch(config, 256), 256);
  } finally {
    limits.chunkBytes = chunkBytes;
  }
});

test('a batch that runs out of memory is tried smaller, and each step is told', async () => {
  const tried: number[] = [];
  const told: [number, number][] = [];
  const { batch, result } = await withinMemory(
    40,
    (sequences) => {
      tried.push(sequences);
      if (sequences > 31) return Promise.reject(new OutOfMemoryError('out of GPU memory'));
      return Promise.resolve(`${sequences} done`);
    },
    (tooMany, next) => told.push([tooMany, next]),
  );
  assert.equal([batch, result], [30, '30 done']);
  assert.equal(tried, [40, 35, 30]);
  assert.equal(told, [[40, 35], [35, 30]]); // prettier-ignore
});

test('other failures, and one sequence that is too many, are failures', async () => {
  const failing = async (planned: number, error: Error): Promise<unknown> => {
    try {
      await withinMemory(planned, () => Promise.reject(error), () => undefined); // prettier-ignore
    } catch (caught) {
      return caught;
    }
    return undefined;
  };
  const other = new RunError('logits are not finite');
  assert.is(await failing(8, other), other);
  const memory = new OutOfMemoryError('out of GPU memory');
  assert.is(await failing(8, memory), memory);
  assert.ok(isMemoryError(new RangeError('Array buffer allocation failed')));
  assert.not.ok(isMemoryError(other));
});

test.run();
