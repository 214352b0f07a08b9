/**
 * Decoding by computed steps, by recorded ones, by recorded ones whose kernels overlap, and by those with chained products
 * as well, behind a short prompt and random keys and values. All must choose the same tokens. With a second argument only
 * that preset is measured.
 */
import { RunError } from '../../src/errors.js';
import { likeliestAfter } from '../../src/model/continuation.js';
import { createModel, presetConfig } from '../../src/model/index.js';
import type { Architecture } from '../../src/model/index.js';
import { CUDA_BACKEND } from '../../src/engines/cuda/backend.js';
import { cudaRecorder } from '../../src/engines/cuda/recorder.js';
import { registerRecorder } from '../../src/ops/index.js';
import { copyRate } from '../../src/profiling/copy-rate.js';
import { fillCache } from '../../src/model/state/fill.js';
import { ELEMENT_BYTES } from '../../src/sweep/memory-budget.js';
import { randomTokens } from '../../src/profiling/prompt.js';
import { median } from '../../src/sweep/statistics.js';
import { decodeBytes } from '../../src/profiling/throughput.js';
import { timeEach } from '../../src/profiling/timing.js';
import * as tf from '../../src/tf.js';
import { cudaBackend, kernelTimes, printKernelTimes } from './kernel-times.js';
import { openSession } from './session.js';

const K = 1024;
const RUNS: { model: string; architecture: Architecture; contexts: number[] }[] = [
  { model: 'yoco-3b', architecture: 'yoco', contexts: [32 * K, 128 * K, 512 * K, 1024 * K] },
  { model: 'transformer-3b', architecture: 'transformer', contexts: [32 * K, 128 * K] },
];
const [PROMPT, WARM_UP, TOKENS] = [1500, 4, 20];
/** Milliseconds of copies ahead of a profiled step: longer than the host takes to queue it. */
const BACKLOG = 40;

const schema = {
  name: 'decoding-modes',
  columns: [
    { name: 'model', kind: 'key', description: 'preset' },
    { name: 'context', kind: 'key', description: 'tokens in the cache before', display: 'count' },
    {
      name: 'mode',
      kind: 'key',
      description: 'computed, recorded, with overlapping kernels, or with chained products as well',
    },
    { name: 'same_tokens', kind: 'result', description: 'whether the tokens are those of the computed mode' },
    { name: 'seconds', kind: 'timing', description: 'one token, median', digits: 6 },
    { name: 'tokens_per_second', kind: 'timing', description: '1 over seconds', digits: 1 },
    {
      name: 'bytes_per_second',
      kind: 'timing',
      description: 'weights, states, and K/V once a layer',
      digits: 0,
    },
    { name: 'share', kind: 'timing', description: 'of the rate of a large copy in the same run', digits: 3 },
  ],
} as const;

const models = RUNS.filter(({ model }) => process.argv[3] === undefined || process.argv[3] === model).map(
  (run) => ({ ...run, config: presetConfig(run.model, run.architecture) }),
);
const { engine, table } = await openSession(schema, {
  configuration: models.map(({ model, config }) => ({ name: model, ...config })),
  constants: { prompt: PROMPT, warmUp: WARM_UP, tokens: TOKENS, batch: 1, seed: 1 },
});
const backend = cudaBackend();
const rate = await copyRate(engine);
process.stderr.write(`copy: ${(rate / 1e12).toFixed(2)} TB/s read and written\n`);
const modes = {
  computed: null,
  recorded: cudaRecorder(backend, { early: false, chained: false }),
  overlapping: cudaRecorder(backend, { chained: false }),
  chained: cudaRecorder(backend),
};

for (const { model: name, config, contexts } of models) {
  const model = createModel(config, { seed: 1, weights: 'repeated' });
  const maxTokens = Math.max(...contexts) + WARM_UP + TOKENS + 1;
  const cache = model.createCache({ maxTokens });
  tf.tidy(() => void model.prefill(randomTokens(model.config, PROMPT, 1), cache));
  for (const context of contexts) {
    fillCache(cache, context);
    const { streamed } = decodeBytes(model.config, context, ELEMENT_BYTES[engine.storage]);
    let expected = '';
    for (const [mode, recorder] of Object.entries(modes)) {
      registerRecorder(CUDA_BACKEND, recorder);
      const fork = cache.fork();
      const chosen: number[] = [];
      const options = { limit: WARM_UP + TOKENS, lastUse: true };
      const all = await timeEach(
        engine,
        () => likeliestAfter(model, fork, Int32Array.of(1), options),
        ([token = -1]) => chosen.push(token),
      );
      if (recorder === null) {
        expected = chosen.join();
        if (context === contexts[0]) {
          const step = (): void => {
            tf.tidy(() => void model.decode(tf.tensor1d([1], 'int32'), fork));
          };
          printKernelTimes(`${name} at ${context}`, kernelTimes(backend, BACKLOG, step));
        }
      }
      fork.dispose();
      const seconds = median(all.slice(WARM_UP));
      const isSame = chosen.join() === expected;
      const row = {
        model: name,
        context,
        mode,
        same_tokens: String(isSame),
        seconds,
        tokens_per_second: 1 / seconds,
        bytes_per_second: streamed / seconds,
        share: streamed / seconds / rate,
      };
      if (isSame) table.append(row);
      else table.fail(row, new RunError(`tokens ${chosen.join()} instead of ${expected}`));
      process.stderr.write(
        `${name} ${context} ${mode}: ${(1e3 * seconds).toFixed(3)} ms, ${(1 / seconds).toFixed(1)} tokens/s, ` +
          `${((100 * streamed) / seconds / rate).toFixed(1)} % of copy, ${isSame ? 'same tokens' : 'OTHER TOKENS'}\n`,
      );
    }
  }
  cache.dispose();
  model.dispose();
}
table.close();
if (table.failures > 0) process.exitCode = 1;
