/** On a GPU: decoding by recorded steps, with and without overlap, gives what computed steps give, to the last bit. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCuda } from '../../../src/engines/cuda/index.js';
import { cudaRecorder } from '../../../src/engines/cuda/recorder.js';
import { createConfig, createModel } from '../../../src/model/index.js';
import { registerRecorder, stepRecorder, type StepRecorder } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { skipBecause } from '../../skip.js';
import { relativeError } from '../../ops/relative-error.js';
import { Inputs } from '../../ops/kernels/contract.js';
import { CUDA, cudaBackend, whyNoGpu } from './gpu.js';

const reason = await whyNoGpu();
const SHAPE = { dim: 128, layers: 4, hiddenDim: 192, heads: 4, kvHeads: 2, vocabSize: 211 };
const CONFIGS = {
  'gated retention': createConfig({ ...SHAPE, selfHeads: 2 }),
  'wide gated retention': createConfig({ ...SHAPE, dim: 512, selfHeads: 2 }),
  'sliding window': createConfig({ ...SHAPE, selfHeads: 4, slidingWindow: 33 }),
  transformer: createConfig({ ...SHAPE, architecture: 'transformer' }),
};
/** A page without `maxTokens` has 4,096 positions: decoding crosses into the second. */
const [PROMPT, STEPS] = [4089, 24];

interface Decoded {
  tokens: number[];
  logits: Float32Array[];
  /** Logits of one more step after a fork, on the fork and on the cache itself. */
  forked: Float32Array[];
  replays: number;
}

/** Wraps the recorder so that it counts its runs. */
function counting(recorder: StepRecorder): { recorder: StepRecorder; runs: () => number } {
  let runs = 0;
  const record: StepRecorder['record'] = (step) => {
    const recorded = recorder.record(step);
    if (recorded === null) return null;
    return {
      run: (input, position) => {
        runs += 1;
        return recorded.run(input, position);
      },
      dispose: () => {
        recorded.dispose();
      },
    };
  };
  return { recorder: { record }, runs: () => runs };
}

/** Decodes `forced` tokens, or greedily. */
function decode(config: keyof typeof CONFIGS, forced: readonly number[] | null): Decoded {
  const model = createModel(CONFIGS[config], { seed: 3 });
  const cache = model.createCache();
  const ids = new Inputs(5).integers([1, PROMPT], SHAPE.vocabSize).values as Int32Array;
  const step = (token: number, on = cache): Float32Array =>
    tf.tidy(() =>
      model
        .decode(tf.tensor1d([token], 'int32'), on)
        .dataSync<'float32'>()
        .slice(),
    );
  const greedy = (logits: Float32Array): number => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
  const found = recorder ? counting(recorder) : null;
  registerRecorder(CUDA, found?.recorder ?? null);
  tf.tidy(() => void model.prefill(tf.tensor2d(ids, [1, PROMPT], 'int32'), cache));
  const [tokens, logits]: [number[], Float32Array[]] = [[], []];
  let token = 1;
  for (let i = 0; i < STEPS; i++) {
    const scores = step(token);
    logits.push(scores);
    tokens.push(greedy(scores));
    token = forced?.[i] ?? greedy(scores);
  }
  const fork = cache.fork();
  const forked = [step(1, fork), step(2), step(3, fork), step(4), step(5, fork), step(6)];
  fork.dispose();
  cache.dispose();
  model.dispose();
  return { tokens, logits, forked, replays: found?.runs() ?? 0 };
}

/** Compares what recorded steps gave with what computed ones did. */
function agree(found: Decoded, expected: Decoded, mode: string): void {
  // The first step, the first of a page, and the one behind it are computed.
  assert.ok(
    found.replays >= STEPS - 4,
    `${mode}: only ${found.replays} of ${STEPS} steps were recorded ones`,
  );
  const check = (what: string, a: readonly Float32Array[], b: readonly Float32Array[]): void => {
    for (const [i, values] of b.entries()) {
      const error = relativeError(a[i] ?? [], values);
      assert.is(error, 0, `${mode}: ${what} ${i} is off by ${error}`);
    }
  };
  check('step', found.logits, expected.logits);
  check('step of a fork', found.forked, expected.forked);
  assert.equal(found.tokens, expected.tokens);
}

let recorder: StepRecorder | undefined;

/** Ways to record a step. */
const MODES = {
  recorded: { early: false, chained: false },
  overlapping: { chained: false },
  'chained without overlap': { early: false },
  chained: {},
};

for (const storage of ['bfloat16', 'float16'] as const) {
  for (const poison of [true, false]) {
    const test = suite(`cuda decoding, ${storage}${poison ? ', poisoned' : ''}`);
    test.before(async () => {
      if (reason === null) await startCuda({ storage, poison });
    });
    test.after(async () => {
      await tf.setBackend('cpu');
    });
    for (const config of Object.keys(CONFIGS) as (keyof typeof CONFIGS)[]) {
      const name = `${config}: recorded steps equal computed ones`;
      if (reason !== null) {
        skipBecause(reason, test, name);
        continue;
      }
      test(name, () => {
        const own = stepRecorder();
        assert.ok(own, 'the engine records');
        recorder = undefined;
        const expected = decode(config, null);
        for (const [mode, options] of Object.entries(MODES)) {
          recorder = cudaRecorder(cudaBackend(), options);
          agree(decode(config, expected.tokens), expected, mode);
        }
        registerRecorder(CUDA, own);
      });
    }
    test.run();
  }
}
