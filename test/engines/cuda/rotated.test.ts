/** Kernels that rotate what they read, on a device that computes nothing: what is launched, and what a recording moves. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../../src/engines/cuda/index.js';
import { cudaRecorder } from '../../../src/engines/cuda/recorder.js';
import { createConfig, createModel } from '../../../src/model/index.js';
import { KeyValuePages, pagedAttention, rotatedRetention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { cudaBackend } from './gpu.js';
import { type StandIn, standIn } from './stand-in.js';

const test = suite('cuda kernels that rotate');
type T4 = tf.Tensor4D;

async function started(): Promise<StandIn> {
  const on = standIn();
  await startOn(on.device);
  return on;
}

/** As of models: one table for all. */
const tables = new Map<number, Float64Array>();
function rotationOf(width: number) {
  const frequencies = tables.get(width) ?? new Float64Array(width / 2).fill(0.1);
  tables.set(width, frequencies);
  return { start: 0, frequencies, style: 'interleaved' } as const;
}

/** Gated retention of ones, with keys of `width`. */
function retain(time: number, width: number, state?: T4): { output: T4; state: T4 } {
  const rows = (columns: number): T4 => tf.fill([1, time, 2, columns], 1);
  const gate = tf.fill<tf.Rank.R3>([1, time, 2], 1);
  return rotatedRetention(rows(width), rows(width), rows(40), gate, {
    rotation: rotationOf(width),
    normalizer: 16,
    state,
  });
}

/** Names of what `work` launches, but for filling operands. */
function launched(on: StandIn, work: () => void): string[] {
  on.launches.length = 0;
  tf.tidy(work);
  return on.launches.map(({ name }) => name).filter((name) => !name.startsWith('fill'));
}

test('few positions of gated retention are one launch, others those of its parts', async () => {
  const on = await started();
  assert.equal(
    launched(on, () => void retain(1, 64)),
    ['retention_step'],
  );
  assert.equal(
    launched(on, () => void retain(16, 256)),
    ['retention_step'],
  );
  const apart = ['rotary_interleaved', 'log_decay', 'retention_contribution'];
  assert.equal(launched(on, () => void retain(17, 64)).slice(0, 3), apart);
  const odd = ['rotary_interleaved_any', ...apart.slice(1)];
  assert.equal(launched(on, () => void retain(3, 258)).slice(0, 3), odd);
});

test('nothing is left of the parts', async () => {
  const on = await started();
  for (const [time, width] of [
    [1, 64],
    [17, 64],
    [3, 258],
  ] as const) {
    tf.tidy(() => void retain(time, width));
    const [bytes, tensors] = [on.device.allocator.memory().liveBytes, tf.memory().numTensors];
    tf.tidy(() => void retain(time, width));
    assert.is(on.device.allocator.memory().liveBytes, bytes);
    assert.is(tf.memory().numTensors, tensors);
  }
});

test('attention of a few queries rotates them itself', async () => {
  const on = await started();
  Object.assign(on.device.driver, { architecture: 'sm_80' }); // whose kernel for many queries needs no tensor maps
  const names = (queries: number, width: number): string[] => {
    const pages = new KeyValuePages({ batch: 1, kvHeads: 1, headDim: width });
    const rows = (): T4 => tf.fill([1, queries, 1, width], 1);
    tf.tidy(() => {
      pages.append(rows(), rows());
    });
    const found = launched(on, () => void pagedAttention(rows(), pages, { rotation: rotationOf(width) }));
    pages.dispose();
    return found;
  };
  assert.equal(names(1, 64), ['attention_split', 'attention_join']);
  assert.equal(names(16, 128), ['attention_split', 'attention_join']);
  assert.equal(names(17, 64), ['rotary_interleaved', 'attention_forward']);
  assert.equal(names(1, 36), ['rotary_interleaved_any', 'attention_forward']);
});

test('few keys are rotated when they are written', async () => {
  const on = await started();
  const names = (count: number): string[] => {
    const pages = new KeyValuePages({ batch: 1, kvHeads: 2, headDim: 64 });
    const rows = (): T4 => tf.fill([1, count, 2, 64], 1);
    const found = launched(on, () => {
      pages.append(rows(), rows(), rotationOf(64));
    });
    pages.dispose();
    return found;
  };
  assert.equal(names(16), ['page_write_rotated']);
  assert.equal(names(17), ['rotary_interleaved', 'page_write_wide']);
});

test('a decoding step of YOCO launches no rotation of its own, and all positions move', async () => {
  const on = await started();
  const shape = { dim: 64, layers: 4, hiddenDim: 48, heads: 2, kvHeads: 2, vocabSize: 61, selfHeads: 2 };
  const model = createModel(createConfig(shape), { seed: 3 });
  const cache = model.createCache({ maxTokens: 64 });
  tf.tidy(() => void model.prefill(tf.zeros([1, 9], 'int32'), cache));
  for (let step = 0; step < 2; step++) tf.tidy(() => void model.decode(tf.tensor1d([7], 'int32'), cache));
  const recorded = on.graphs.get(1) ?? [];
  const counts = new Map<string, number>();
  for (const { name } of recorded) counts.set(name, (counts.get(name) ?? 0) + 1);
  assert.is(counts.get('retention_step'), 2);
  assert.is(counts.get('attention_split'), 2);
  assert.is(counts.get('page_write_rotated'), 1);
  assert.not(counts.has('rotary_interleaved'));
  assert.not(counts.has('log_decay'));
  for (const { name, args } of recorded) {
    const at = { retention_step: 10, attention_split: 12, page_write_rotated: 11 }[name];
    if (at === undefined) continue;
    const [place, offset] = [args[at], args[at + 1]];
    assert.ok(place?.kind === 'pointer' && place.value > 0, `${name} reads its position`);
    assert.equal(offset, { kind: 'int32', value: 0 });
  }
  cache.dispose();
  model.dispose();
});

test('a state is read early only if nothing in the step has written it', async () => {
  const on = await started();
  const first = tf.tidy(() => tf.keep(retain(1, 32).state));
  let state = first;
  const other = tf.keep(tf.fill<tf.Rank.R4>([1, 2, 32, 40], 1));
  const step = cudaRecorder(cudaBackend()).record({
    position: 4,
    inputShape: [1],
    carried: () => [state],
    compute: () => {
      retain(1, 32, other); // not carried: the step might have made it
      for (let times = 0; times < 2; times++) state = tf.keep(retain(1, 32, state).state);
      return tf.fill([1], 0);
    },
  });
  const flags = (on.graphs.get(1) ?? []).flatMap(({ name, args }) =>
    name === 'retention_step' ? [args.at(-1)] : [],
  );
  assert.equal(
    flags,
    [0, 1, 0].map((value) => ({ kind: 'int32', value })),
  );
  step?.dispose();
  tf.dispose([first, other]);
});

test.after(async () => {
  await tf.setBackend('cpu');
});
test.run();
