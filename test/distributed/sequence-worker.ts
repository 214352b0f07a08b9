/**
 * Run once per rank, with an engine's name or `plain` and perhaps names of cases: models whose sequences are divided over the ranks
 * compute what one model alone computes.
 */
import * as assert from 'uvu/assert';
import type { Communicator } from '../../src/distributed/communicator.js';
import { joinByMpi } from '../../src/distributed/mpi.js';
import { type Ranks, ranksOf } from '../../src/distributed/ranks.js';
import { joinRanks } from '../../src/engines/join.js';
import { startEngine } from '../../src/engines/start.js';
import type { EngineName } from '../../src/engines/engine.js';
import { type LanguageModel, valueAndGradients } from '../../src/model/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { CASES, ids, randomTokens, testModel } from '../model/cases.js';
import { close } from '../ops/compare.js';

const TOLERANCE = 2e-4;

/**
 * A prompt in several calls, short ones among them, a decoded token, a fork and a return to a marked length.
 * @param long tokens of a call that is divided
 */
function readings(model: LanguageModel, tokens: readonly number[], long: number): number[][] {
  const cache = model.createCache({ maxTokens: 512 });
  const found: number[][] = [];
  const keep = (logits: tf.Tensor | null): void => {
    if (logits !== null) found.push(Array.from(logits.dataSync()));
  };
  tf.tidy(() => {
    let length = 0;
    const next = (count: number): tf.Tensor2D => ids([tokens.slice(length, (length += count))]);
    keep(model.prefill(next(long + 9), cache, { chunkSize: long }));
    keep(model.extend(next(5), cache, { logits: 'last' }));
    keep(model.extend(next(long + 1), cache, { logits: 'all' }));
    cache.mark();
    const marked = length;
    keep(model.extend(next(long), cache, { logits: 'none' }));
    keep(model.decode(tf.reshape(next(1), [1]), cache));
    const fork = cache.fork();
    cache.rewind(marked);
    keep(model.extend(ids([tokens.slice(marked, marked + 1)]), cache, { logits: 'last' }));
    keep(model.decode(tf.reshape(next(1), [1]), fork));
    fork.dispose();
  });
  cache.dispose();
  return found;
}

/** This rank's columns. */
const slice = (rows: number[][], model: LanguageModel, of: 'tokens' | 'targets'): number[][] =>
  rows.map((row) =>
    model.stretches(row.length)[of].flatMap(({ from, count }) => row.slice(from, from + count)),
  );

/** Tokens of a call for each rank, a few more than the least that are divided. */
const SHARE = 18;

function checkReading(
  [whole, divided]: readonly [LanguageModel, LanguageModel],
  { size }: Communicator,
  name: string,
): void {
  assert.is(divided.chunkTokens, size * whole.chunkTokens);
  const long = SHARE * size;
  const [tokens] = randomTokens(1, 4 * long, 3) as [number[]];
  const expected = readings(whole, tokens, long);
  readings(divided, tokens, long).forEach((found, i) => {
    tf.tidy(() => {
      close(
        tf.tensor1d(found),
        Float32Array.from(expected[i] as number[]),
        TOLERANCE,
        `${name}: logits ${i}`,
      );
    });
  });
}

/** Loss and gradients, with layers recomputed in the backward pass and not. */
function checkLearning(
  [whole, divided]: readonly [LanguageModel, LanguageModel],
  ranks: Communicator,
  name: string,
): void {
  const [tokens, targets] = [randomTokens(2, 24, 4), randomTokens(2, 24, 5)];
  const stretches = divided.stretches(24);
  const counts = { transformer: [2, 2], cla3: [2, 2], 'window of one': [1, 2], interleaved: [1, 1] }[name];
  if (counts) assert.equal([stretches.tokens.length, stretches.targets.length], counts, `${name}: in zigzag`);
  const all = valueAndGradients(whole, () => whole.objective(ids(tokens), ids(targets), null).total);
  for (const recompute of [false, true]) {
    const own = valueAndGradients(divided, () => {
      const [x, y] = [ids(slice(tokens, divided, 'tokens')), ids(slice(targets, divided, 'targets'))];
      const { total } = divided.objective(x, y, null, { recompute });
      return tf.mul<tf.Scalar>(total, 1 / ranks.size);
    });
    const what = recompute ? `${name}, recomputed` : name;
    tf.tidy(() => {
      close(ranks.allReduce(own.value), all.value.dataSync(), TOLERANCE, `${what}: loss`);
      for (const [parameter, gradient] of all.gradients) {
        const sum = ranks.allReduce(own.gradients.get(parameter) as tf.Tensor);
        close(sum, gradient.dataSync(), TOLERANCE, `${what}: gradient of ${parameter}`);
      }
    });
    tf.dispose([own.value, ...own.gradients.values()]);
  }
  tf.dispose([all.value, ...all.gradients.values()]);
}

async function join(name: string, place: Ranks): Promise<Communicator> {
  if (name === 'plain') {
    await usePlainBackend();
    return joinByMpi(place);
  }
  const options = { threads: 1, storage: 'float32', device: place.localRank } as const;
  return joinRanks(await startEngine(name as EngineName, options), place);
}

const place = ranksOf(process.env);
if (place === null) throw new Error('no rank in the environment');
const [, , engineName = 'plain', ...names] = process.argv;
const ranks = await join(engineName, place);
for (const [name, input] of Object.entries(CASES)) {
  if (names.length > 0 && !names.includes(name)) continue;
  const models = [testModel(input), testModel(input, ranks)] as const;
  const before = tf.memory().numTensors;
  checkReading(models, ranks, name);
  assert.is(tf.memory().numTensors, before, `${name}: tensors left behind by reading`);
  checkLearning(models, ranks, name);
  assert.is(tf.memory().numTensors, before, `${name}: tensors left behind by learning`);
  for (const model of models) model.dispose();
}
ranks.barrier();
ranks.close();
process.stdout.write(`rank ${ranks.rank} of ${ranks.size}: as one\n`);
