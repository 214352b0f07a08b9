/**
 * Run once per rank, with an engine's name, a storage type and perhaps how the last rank is to end: `killed` or `aborting`. Decodes by
 * steps that ranks record together, and compares with steps that are computed. An engine that records nothing over ranks gets a recorder that
 * computes, to see that all ranks begin and end their recordings at the same steps.
 */
import * as assert from 'uvu/assert';
import { SOLO } from '../../src/distributed/communicator.js';
import { ranksOf } from '../../src/distributed/ranks.js';
import type { EngineName, StorageType } from '../../src/engines/engine.js';
import { joinRanks } from '../../src/engines/join.js';
import { startEngine } from '../../src/engines/start.js';
import { createConfig, createModel, type LanguageModel } from '../../src/model/index.js';
import { registerRecorder, reportRefusals, stepRecorder, type StepRecorder } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { ids, randomTokens } from '../model/cases.js';
import { close } from '../ops/compare.js';

const place = ranksOf(process.env);
if (place === null) throw new Error('no rank in the environment');
const [, , name, storage = 'float32', ending = ''] = process.argv;
const options = { threads: 1, storage: storage as StorageType, device: place.localRank };
const engine = await startEngine(name as EngineName, options);
const ranks = await joinRanks(engine, place);
const { rank, size } = ranks;

/** Each step is computed when it is run. */
const computing: StepRecorder = {
  record: ({ compute }) => ({ run: (input) => compute(input), dispose: () => undefined }),
};
const own = stepRecorder() ?? null;
/** One that is not asked over ranks. */
const unasked = own?.singleRank === true ? own : null;
const recorder = unasked === own ? computing : (own as StepRecorder);

/** Positions and keys of all recorded steps that have run. */
const replays: [position: number, keys: number][] = [];
/** After so many of them the last rank ends. */
const LAST = ending === '' ? Infinity : 50;

function end(): void {
  if (rank < size - 1) return;
  if (ending === 'aborting') ranks.abort(3);
  process.kill(process.pid, 'SIGKILL');
}

const noting: StepRecorder = {
  record(step) {
    const recorded = recorder.record(step);
    const first = { position: step.position, keys: step.keys ?? NaN };
    // Whether it holds the writing of a key.
    let keeps: boolean | undefined;
    return (
      recorded && {
        run(input, position, keys = NaN) {
          keeps ??= keys > first.keys;
          assert.is(keys - first.keys, keeps ? position - first.position : 0, 'as when it was recorded');
          if (replays.push([position, keys]) > LAST) end();
          return recorded.run(input, position, keys);
        },
        dispose: () => {
          recorded.dispose();
        },
      }
    );
  },
};

const refusals: string[] = [];
reportRefusals((reason) => void refusals.push(reason));

const [tokens = []] = randomTokens(1, 2000, 5);

/** Logits of decoded tokens: over changes of the rank that keeps them, runs of several tokens in between, and a fork. */
function decoded(model: LanguageModel): number[][] {
  const cache = model.createCache();
  const found: number[][] = [];
  let length = 0;
  const next = (count: number): tf.Tensor2D => ids([tokens.slice(length, (length += count))]);
  const steps = (count: number, on = cache): void => {
    for (let step = 0; step < count; step++) {
      const logits = model.decode(tf.reshape(next(1), [1]), on);
      found.push(Array.from(logits.dataSync()));
    }
  };
  tf.tidy(() => {
    tf.dispose(model.prefill(next(240), cache));
    steps(10);
    // The keeper changes at 256, within the run.
    tf.dispose(model.extend(next(9), cache, { logits: 'last' }));
    steps(5);
    model.extend(next(32 * size), cache, { logits: 'none' });
    steps(8);
    const fork = cache.fork();
    const forked = length;
    steps(5, fork);
    fork.dispose();
    length = forked;
    steps(LAST === Infinity ? 5 : 500);
  });
  cache.dispose();
  return found;
}

const shape = { dim: 64, layers: 2, hiddenDim: 48, heads: 2, kvHeads: 2, vocabSize: 61 };
for (const config of [
  createConfig({ ...shape, architecture: 'transformer' }),
  ...(recorder === computing ? [] : [createConfig({ ...shape, selfHeads: 2 })]),
]) {
  const model = createModel(config, { seed: 3, ranks });
  registerRecorder(tf.getBackend(), noting);
  const before = replays.length;
  const recorded = decoded(model);
  const run = replays.slice(before);
  registerRecorder(tf.getBackend(), unasked);
  const computed = decoded(model);
  recorded.forEach((logits, i) => {
    assert.equal(logits, computed[i], `${config.architecture}: step ${i}`);
  });
  if (engine.storage === 'float32') {
    const whole = decoded(createModel(config, { seed: 3, ranks: SOLO }));
    recorded.forEach((logits, i) => {
      close(
        tf.tensor1d(logits),
        Float32Array.from(whole[i] ?? []),
        2e-4,
        `${config.architecture}: one, ${i}`,
      );
    });
  }
  assert.equal(refusals, []);
  assert.ok(run.length >= 18, `${run.length} steps were recorded`);
  const positions = ranks.gather(run.map(([position]) => position));
  for (const other of positions)
    assert.equal(other, positions[0], 'all ranks run recordings at the same steps');
  const keys = ranks.gather(run.map(([, count]) => count)) as number[][];
  run.forEach(([position], i) => {
    const sum = keys.reduce((all, of) => all + (of[i] ?? NaN), 0);
    assert.is(sum, position, 'all keys before the step are on some rank');
  });
}
ranks.barrier();
ranks.close();
process.stdout.write(`rank ${rank} of ${size}: ${replays.length} recorded steps as computed\n`);
