/** Cells that fail at any allocation, on a device that computes nothing: what they held is given back, and the next cell works. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { CachingAllocator } from '../../src/engines/cuda/allocator.js';
import { startOn } from '../../src/engines/cuda/index.js';
import type { Engine } from '../../src/engines/engine.js';
import { OutOfMemoryError } from '../../src/errors.js';
import { createModel, type LanguageModel } from '../../src/model/index.js';
import { releasedOnFailure } from '../../src/ops/held.js';
import { profileEndToEnd } from '../../src/profiling/profile-end-to-end.js';
import { profileMemory } from '../../src/profiling/profile-memory.js';
import { profilePrefill } from '../../src/profiling/profile-prefill.js';
import { profileThroughput } from '../../src/profiling/profile-throughput.js';
import { reportRefusals } from '../../src/ops/index.js';
import type { ModelChoice } from '../../src/sweep/model-key.js';
import type { SweepProgress } from '../../src/sweep/sweep.js';
import * as tf from '../../src/tf.js';
import { CONFIGS, prompted } from '../engines/cuda/stand-in-models.js';
import { standIn } from '../engines/cuda/stand-in.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('a cell that fails');
test.after(usePlainBackend);

/** Every allocation takes minutes. */
const STRIDE = 37;

interface Cell {
  readonly status: string;
  readonly error: string | null;
}

/** Of one model, on any engine. */
interface Profiling {
  readonly engine: Engine;
  readonly models: readonly ModelChoice[];
  readonly onProgress: (progress: SweepProgress<{ context: number }>) => void;
}

const contexts = [20, 24];
const requests = { contexts, batches: [2], warmUp: 1 };
const ALL = Object.keys(CONFIGS) as (keyof typeof CONFIGS)[];

interface Case {
  readonly name: string;
  readonly of: readonly (keyof typeof CONFIGS)[];
  readonly profile: (plan: Profiling) => Promise<{ cells: readonly Cell[] }>;
}

const CASES: readonly Case[] = [
  {
    name: 'whole requests',
    of: ['gated retention'],
    profile: (plan) => profileEndToEnd({ ...plan, ...requests, generate: 5 }),
  },
  {
    name: 'sampled requests',
    of: ALL,
    profile: (plan) =>
      profileEndToEnd({ ...plan, ...requests, generate: 9, sampleChunks: 2, sampleSteps: 4 }),
  },
  {
    name: 'prefill',
    of: ['transformer'],
    profile: (plan) =>
      profilePrefill({ ...plan, contexts, earlyExit: [true], chunkSize: 16, repetitions: 1 }),
  },
  {
    name: 'decoding',
    of: ['gated retention'],
    profile: (plan) => profileThroughput({ ...plan, contexts, tokens: 3, warmUp: 1 }),
  },
  {
    name: 'memory',
    of: ['sliding window'],
    profile: (plan) => profileMemory({ ...plan, contexts, chunkSize: 16 }),
  },
];

for (const { name, of, profile } of CASES) {
  for (const model of of) {
    test(`${name}, ${model}: whichever allocation fails`, async () => {
      const on = standIn();
      const engine = await startOn(on.device);
      reportRefusals(() => undefined);
      const failure = failingAllocation(on.device.allocator);
      const live = (): number => on.device.allocator.memory().liveBytes;
      const config = CONFIGS[model];
      const weightBytes = bytesOf(createModel(config, { seed: 1 }), live);
      /** The outcomes, and the bytes held when the second cell begins. */
      const run = async (at: number): Promise<{ held: number; cells: readonly Cell[] }> => {
        let held = NaN;
        failure.next(at);
        const { cells } = await profile({
          engine,
          models: [{ name: model, config }],
          onProgress: ({ key: { context } }) => {
            if (Number.isNaN(held) && context === contexts[1]) held = live();
          },
        });
        return { held, cells };
      };
      const { cells: whole } = await run(Infinity);
      assert.equal(whole.map(({ status }) => status), ['ok', 'ok']); // prettier-ignore
      const total = failure.count;
      // The device has the tables of rotations, which stay.
      const state = (): number[] => [live(), tf.memory().numTensors, tf.memory().numDataBuffers];
      const before = state();
      let failures = 0;
      for (let at = 1; at <= total; at += STRIDE) {
        const { held, cells } = await run(at);
        assert.equal(state(), before, `allocation ${at} of ${total}: bytes, tensors and buffers`);
        assert.is(on.graphs.size, 0);
        // A recorded step without room is computed instead.
        const failed = cells.filter(({ status }) => status !== 'ok');
        assert.ok(failed.every(({ error }) => error === 'out of GPU memory'));
        assert.ok(failed.length <= 1, 'the other cell works');
        failures += failed.length;
        if (cells[0]?.status !== 'error') continue;
        const rest = held - live();
        assert.ok(rest <= weightBytes, `allocation ${at}: ${rest} bytes beside ${weightBytes} of weights`);
      }
      assert.ok(failures > 3);
    });
  }
}

/** Bytes of the model, which is disposed of: small weights go to the device when they are first used. */
function bytesOf(model: LanguageModel, live: () => number): number {
  prompted(model, 64).dispose();
  const bytes = live();
  model.dispose();
  return bytes - live();
}

/** Has one allocation fail, counted from `next` on. */
function failingAllocation(allocator: CachingAllocator): { count: number; next: (at: number) => void } {
  const allocate = allocator.allocate.bind(allocator);
  let failing = Infinity;
  const failure = {
    count: 0,
    next: (at: number) => {
      failure.count = 0;
      failing = at;
    },
  };
  allocator.allocate = (bytes) => {
    if (++failure.count === failing) throw new OutOfMemoryError('out of GPU memory');
    return allocate(bytes);
  };
  return failure;
}

test('a result that is a failure releases what was made, one that is none does not', async () => {
  await usePlainBackend();
  const before = tf.memory().numTensors;
  const made: tf.Tensor[] = [];
  const work = (): Promise<string> => {
    made.push(
      tf.keep(tf.scalar(1)),
      tf.tidy(() => tf.keep(tf.variable(tf.scalar(2)))),
    );
    return Promise.resolve('done');
  };
  assert.is(await releasedOnFailure(work, () => true), 'done');
  assert.is(tf.memory().numTensors, before);
  await releasedOnFailure(async () => {
    await releasedOnFailure(work);
    assert.is(tf.memory().numTensors, before + 2);
    await releasedOnFailure(work, () => true);
    assert.is(tf.memory().numTensors, before + 2, 'what earlier work made is left');
  });
  assert.is(tf.memory().numTensors, before + 2);
  tf.dispose(made);
  assert.is(tf.memory().numTensors, before);
});

test('a failure releases what work inside of it has left', async () => {
  const before = tf.memory().numTensors;
  const inner = (): Promise<unknown> => releasedOnFailure(() => Promise.resolve(tf.keep(tf.scalar(1))));
  await releasedOnFailure(inner, () => true);
  assert.is(tf.memory().numTensors, before);
});

test.run();
