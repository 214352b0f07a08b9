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

/** A prompt in several calls, short ones among them, a decoded token, a fork and a return to a marked length. */
function readings(model: LanguageModel, tokens: readonly number[]): number[][] {
  const cache = model.createCache({ maxTokens: 512 });
  const found: number[][] = [];
  const keep = (logits: tf.Tensor | null): void => {
    if (logits !== null) found.push(Array.from(logits.dataSync()));
  };
  tf.tidy(() => {
    const part = (from: number, to: number): tf.Tensor2D => ids([tokens.slice(from, to)]);
    keep(model.prefill(part(0, 90), cache, { chunkSize: 70 }));
    keep(model.extend(part(90, 95), cache, { logits: 'last' }));
    keep(model.extend(part(95, 168), cache, { logits: 'all' }));
    cache.mark();
    keep(model.extend(part(168, 240), cache, { logits: 'none' }));
    keep(model.decode(tf.tensor1d([tokens[240] as number], 'int32'), cache));
    const fork = cache.fork();
    cache.rewind(168);
    keep(model.extend(part(168, 169), cache, { logits: 'last' }));
    keep(model.decode(tf.tensor1d([tokens[241] as number], 'int32'), fork));
    fork.dispose();
  });
  cache.dispose();
  return found;
}

/** This rank's columns. */
const slice = (rows: number[][], { rank, size }: Communicator): number[][] =>
  rows.map((row) => row.slice((rank * row.length) / size, ((rank + 1) * row.length) / size));

function checkReading(whole: LanguageModel, divided: LanguageModel, name: string): void {
  const [tokens] = randomTokens(1, 242, 3) as [number[]];
  const expected = readings(whole, tokens);
  readings(divided, tokens).forEach((found, i) => {
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

function checkLearning(
  [whole, divided]: readonly [LanguageModel, LanguageModel],
  ranks: Communicator,
  recompute: boolean,
  name: string,
): void {
  const [tokens, targets] = [randomTokens(2, 24, 4), randomTokens(2, 24, 5)];
  const all = valueAndGradients(whole, () => whole.objective(ids(tokens), ids(targets), null).total);
  const own = valueAndGradients(divided, () => {
    const [x, y] = [ids(slice(tokens, ranks)), ids(slice(targets, ranks))];
    const { total } = divided.objective(x, y, null, { recompute });
    return tf.mul<tf.Scalar>(total, 1 / ranks.size);
  });
  tf.tidy(() => {
    close(ranks.allReduce(own.value), all.value.dataSync(), TOLERANCE, `${name}: loss`);
    for (const [parameter, gradient] of all.gradients) {
      const sum = ranks.allReduce(own.gradients.get(parameter) as tf.Tensor);
      close(sum, gradient.dataSync(), TOLERANCE, `${name}: gradient of ${parameter}`);
    }
  });
  tf.dispose([all.value, own.value, ...all.gradients.values(), ...own.gradients.values()]);
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
  checkReading(...models, name);
  assert.is(tf.memory().numTensors, before, `${name}: tensors left behind by reading`);
  for (const recompute of [false, true]) {
    checkLearning(models, ranks, recompute, recompute ? `${name}, recomputed` : name);
  }
  assert.is(tf.memory().numTensors, before, `${name}: tensors left behind by learning`);
  for (const model of models) model.dispose();
}
ranks.barrier();
ranks.close();
process.stdout.write(`rank ${ranks.rank} of ${ranks.size}: as one\n`);
