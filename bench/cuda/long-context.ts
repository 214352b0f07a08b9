/**
 * Transformer-3B at contexts whose whole prefill takes minutes. The cache is filled with random keys and values; one
 * chunk is timed at several contexts, and the time of the whole prefill is the integral of the chunk times (they grow
 * linearly with context), which the columns say. Decoding behind the same cache is timed directly.
 */
import type { ModelCache } from '../../src/model/cache.js';
import { createModel, presetConfig, type LanguageModel } from '../../src/model/index.js';
import type { Engine } from '../../src/engines/engine.js';
import { median } from '../../src/profiling/statistics.js';
import { randomTokens } from '../../src/profiling/prompt.js';
import { timeRuns } from '../../src/profiling/timing.js';
import * as tf from '../../src/tf.js';
import { fill, layerCache } from './fill.js';
import { openSession } from './session.js';

const CHUNK = 8192;
const K = 1024;
/** Contexts, and where before them chunks are timed; the longest takes 111 GiB. */
const SAMPLES = [0, 128 * K, 256 * K, 504 * K, 768 * K, 1016 * K];
const DECODED = [512 * K, 1024 * K];
const DECODE_TOKENS = 16;

const schema = {
  name: 'transformer-long-context',
  columns: [
    { name: 'model', kind: 'key', description: 'preset' },
    { name: 'context', kind: 'key', description: 'tokens in the cache before', display: 'count' },
    {
      name: 'chunk_tokens',
      kind: 'timing',
      description: 'tokens of the timed chunk; empty where decoding was timed',
    },
    {
      name: 'chunk_seconds',
      kind: 'timing',
      description: 'one chunk behind this context, median of two',
      digits: 6,
    },
    {
      name: 'prefill_seconds_integrated',
      kind: 'timing',
      description: 'chunk times integrated from 0 to the context',
      digits: 3,
    },
    {
      name: 'decode_seconds',
      kind: 'timing',
      description: 'one token behind this context, median',
      digits: 6,
    },
    { name: 'live_bytes', kind: 'timing', description: 'bytes of all tensors' },
  ],
} as const;

async function timeChunk(model: LanguageModel, engine: Engine, cache: ModelCache): Promise<number> {
  const tokens = randomTokens(model.config, CHUNK, 1);
  const seconds = await timeRuns(engine, 2, () => {
    const fork = cache.fork();
    model.extend(tokens, fork, { logits: 'none' });
    fork.dispose();
  });
  tokens.dispose();
  return median(seconds);
}

async function timeDecoding(model: LanguageModel, engine: Engine, cache: ModelCache): Promise<number> {
  const seconds = await timeRuns(engine, DECODE_TOKENS + 2, () => {
    tf.tidy(() => tf.argMax(model.decode(tf.tensor1d([5], 'int32'), cache), 1).dataSync());
  });
  return median(seconds.slice(2));
}

/** Seconds from 0 to `context`, the chunk times being linear between samples. */
function integrate(samples: readonly (readonly [context: number, seconds: number])[]): number {
  return samples.slice(1).reduce((sum, [context, seconds], i) => {
    const [before, secondsBefore] = samples[i] as [number, number];
    return sum + ((context - before) / CHUNK) * ((seconds + secondsBefore) / 2);
  }, 0);
}

const { engine, table } = await openSession(schema);
const model = createModel(presetConfig('transformer-3b', 'transformer'), { seed: 1, weights: 'repeated' });
const cache = layerCache(model.createCache({ maxTokens: 1024 * K + 2 * CHUNK }));
await timeChunk(model, engine, cache);
const samples: [number, number][] = [];
for (const context of [...SAMPLES, ...DECODED].sort((a, b) => a - b)) {
  fill(model, cache, context);
  const key = { model: 'transformer-3b', context: cache.length, status: 'ok' };
  if (SAMPLES.includes(context)) {
    const seconds = await timeChunk(model, engine, cache);
    samples.push([context, seconds]);
    const live = engine.memory().liveBytes;
    table.append({
      ...key,
      chunk_tokens: CHUNK,
      chunk_seconds: seconds,
      prefill_seconds_integrated: integrate(samples),
      live_bytes: live,
    });
  } else {
    // The last chunk begins one chunk before the context, where one was timed.
    const whole = integrate(samples) + (samples.at(-1)?.[1] ?? 0);
    const decode = await timeDecoding(model, engine, cache);
    table.append({
      ...key,
      prefill_seconds_integrated: whole,
      decode_seconds: decode,
      live_bytes: engine.memory().liveBytes,
    });
  }
}
table.close();
