/** Decoding steps that ranks record together, on a device that computes nothing: what they hold, and that no rank begins alone. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { NcclCommunicator } from '../../../src/engines/cuda/nccl.js';
import type { Nccl } from '../../../src/engines/cuda/nccl-library.js';
import { cudaRecorder } from '../../../src/engines/cuda/recorder.js';
import { startOn } from '../../../src/engines/cuda/index.js';
import { type LanguageModel, type ModelConfig, createModel } from '../../../src/model/index.js';
import type { ModelCache } from '../../../src/model/state/state-cache.js';
import { registerRecorder } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { CUDA, cudaBackend } from './gpu.js';
import { CONFIGS, decode, refused } from './stand-in-models.js';
import { type Launch, type StandIn, standIn } from './stand-in.js';

const test = suite('recorded decoding of ranks');

/** What the other rank says where this one says `own`. */
type Answer = (own: unknown) => unknown;

class OneOfTwo extends NcclCommunicator {
  answer: Answer = (own) => own;

  override gather(own: unknown): unknown[] {
    const other = this.answer(own);
    return this.rank === 0 ? [own, other] : [other, own];
  }
}

interface Started {
  on: StandIn;
  model: LanguageModel;
  ranks: OneOfTwo;
  /** Calls of NCCL that make or end communicators. */
  ends: string[];
}

async function started(config: ModelConfig, rank: number): Promise<Started> {
  const on = standIn();
  await startOn(on.device);
  registerRecorder(CUDA, cudaRecorder(cudaBackend(), { chained: false }));
  const ends: string[] = [];
  const call = new Proxy({} as Nccl['call'], {
    get: (_, name: string) => (): void => {
      if (name.startsWith('ncclComm')) ends.push(`${name}, ${on.graphs.size} graphs`);
      else on.note(name);
    },
  });
  const nccl = { call, version: '0', join: () => 0 };
  const ranks = new OneOfTwo(nccl, 7, { rank, size: 2 }, cudaBackend());
  return { on, ranks, ends, model: createModel(config, { seed: 3, ranks }) };
}

const PROMPT = 41;

function prompted(model: LanguageModel, count = PROMPT): ModelCache {
  const cache = model.createCache();
  const tokens = tf.zeros<tf.Rank.R2>([1, count], 'int32');
  tf.dispose([model.prefill(tokens, cache), tokens]);
  return cache;
}

const namesOf = (launches: readonly Launch[]): string[] => launches.map(({ name }) => name);

for (const rank of [0, 1]) {
  test(`rank ${rank}: the recording holds what a step says to other ranks`, async () => {
    const { on, model } = await started(CONFIGS.transformer, rank);
    const cache = prompted(model);
    on.launches.length = 0;
    decode(model, cache);
    const plain = namesOf(on.launches);
    assert.is(plain.filter((name) => name === 'ncclAllGather').length, 4, 'outputs and sums of two layers');
    assert.is(plain.includes('page_write_rotated'), rank === 0, 'the first rank keeps short runs');
    decode(model, cache);
    const [[graph, recorded] = [0, []]] = on.graphs;
    assert.equal(namesOf(recorded), plain, 'the same launches, in the same order');
    on.uploads.length = 0;
    for (let step = 0; step < 3; step++) decode(model, cache);
    assert.equal(on.replays, [graph, graph, graph, graph]);
    // 20 positions each of the prompt, and its last token and the decoded ones on the first.
    const keys = rank === 0 ? [23, 24, 25] : [20, 20, 20];
    const words = on.uploads
      .filter((_, i) => i % 2 === 0)
      .map(({ bytes }) => [...new Int32Array(bytes.buffer)]);
    assert.equal(
      words,
      keys.map((count, i) => [PROMPT + 2 + i, count]),
      'position and keys',
    );
    cache.dispose();
    assert.is(on.graphs.size, 0);
    model.dispose();
  });

  test(`rank ${rank}: keys move attention and pages, the position moves rotations`, async () => {
    const { on, model } = await started(CONFIGS.transformer, rank);
    const cache = prompted(model);
    for (let step = 0; step < 3; step++) decode(model, cache);
    const [[, recorded] = [0, []]] = on.graphs;
    const moving = (name: string, at: number): unknown[] => {
      const args = recorded.find((launch) => launch.name === name)?.args ?? [];
      return [args[at], args[at + 1]].map((arg) => arg?.kind !== 'bytes' && arg?.value);
    };
    const [place, offset] = moving('attention_split', 4);
    assert.is(offset, rank === 0 ? 1 : 0, 'its own key, if it keeps it');
    const rotated = recorded.find(({ name }) => name.startsWith('rotary'));
    assert.ok(rotated?.args.some((arg) => arg.kind === 'pointer' && arg.value === Number(place) - 4));
    if (rank === 0) assert.is(moving('page_write_rotated', 6)[0], place);
    cache.dispose();
    model.dispose();
  });
}

test('another rank that keeps the keys ends a recording', async () => {
  const { on, model } = await started(CONFIGS.transformer, 1);
  const cache = prompted(model, 252);
  const replays = (count: number): number => {
    const before = on.replays.length;
    for (let step = 0; step < count; step++) decode(model, cache);
    return on.replays.length - before;
  };
  assert.is(replays(4), 3, 'to position 256');
  assert.not(namesOf([...on.graphs.values()].flat()).includes('page_write_rotated'));
  assert.is(replays(4), 2, 'recorded again');
  assert.ok(namesOf([...on.graphs.values()].flat()).includes('page_write_rotated'), 'now here');
  tf.tidy(() => void model.extend(tf.zeros([1, 40], 'int32'), cache, { logits: 'none' }));
  assert.is(replays(3), 1, 'slices end it');
  cache.dispose();
  model.dispose();
});

test('a rank that cannot record keeps all from it, and all say why', async () => {
  const { on, model, ranks } = await started(CONFIGS.transformer, 0);
  ranks.answer = () => 'no such luck';
  const cache = prompted(model);
  const lines = refused(() => {
    for (let step = 0; step < 5; step++) decode(model, cache);
  });
  assert.equal(lines, ['on rank 1: no such luck']);
  assert.is(on.replays.length, 0);
  assert.is(on.graphs.size, 0);
  assert.is(cache.length, PROMPT + 5);
  cache.dispose();
  model.dispose();
});

test('a recording that differs on one rank is used on none', async () => {
  const { on, model, ranks } = await started(CONFIGS.transformer, 0);
  const cache = prompted(model);
  decode(model, cache);
  const answers: (string | null)[] = [null, 'it differs'];
  ranks.answer = () => answers.shift();
  const lines = refused(() => {
    for (let step = 0; step < 4; step++) decode(model, cache);
  });
  assert.equal(lines, ['on rank 1: it differs']);
  assert.is(on.replays.length, 1);
  assert.is(on.graphs.size, 0);
  assert.is(cache.length, PROMPT + 5);
  cache.dispose();
  model.dispose();
});

test('a rank that may record later lets the others wait', async () => {
  const { on, model, ranks } = await started(CONFIGS.transformer, 0);
  const cache = prompted(model);
  decode(model, cache);
  const answers = ['', null, null];
  ranks.answer = () => answers.shift();
  const lines = refused(() => {
    for (let step = 0; step < 3; step++) decode(model, cache);
  });
  assert.equal(lines, []);
  assert.is(on.replays.length, 2);
  cache.dispose();
  model.dispose();
});

test('graphs end before NCCL waits for them', async () => {
  const exit = process.exit.bind(process);
  for (const [end, call] of [
    [
      (ranks: OneOfTwo): void => {
        ranks.close();
      },
      'ncclCommDestroy',
    ],
    [
      (ranks: OneOfTwo): void => {
        ranks.abort(1);
      },
      'ncclCommAbort',
    ],
  ] as const) {
    // prettier-ignore
    const { on, model, ranks, ends } = await started(CONFIGS.transformer, 0);
    const cache = prompted(model);
    for (let step = 0; step < 4; step++) decode(model, cache);
    assert.is(on.graphs.size, 1);
    process.exit = () => {
      throw new Error('exit');
    };
    try {
      end(ranks);
    } catch (error) {
      assert.match(String(error), /exit/);
    } finally {
      process.exit = exit;
    }
    assert.equal(ends, [`${call}, 0 graphs`]);
  }
});

test.after(async () => {
  await tf.setBackend('cpu');
});
test.run();
