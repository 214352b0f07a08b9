/** Recorded decoding steps on a device that computes nothing: when they are made, what they hold, when they end. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cudaRecorder } from '../../../src/engines/cuda/recorder.js';
import { createConfig } from '../../../src/model/index.js';
import { registerRecorder } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { waits } from './early-kernels.js';
import { CUDA, cudaBackend } from './gpu.js';
import { CONFIGS, decode, liveBytes, NAMES, overlap, PROMPT, prompted, SHAPE, started } from './stand-in-models.js'; // prettier-ignore

const test = suite('recorded decoding');

for (const name of NAMES) {
  test(`${name}: the second step is recorded, later ones are one launch`, async () => {
    const { on, model } = await started(CONFIGS[name]);
    registerRecorder(CUDA, cudaRecorder(cudaBackend(), { chained: false }));
    const before = liveBytes(on);
    const [tensors, buffers] = [tf.memory().numTensors, tf.memory().numDataBuffers];
    const cache = prompted(model, 64);
    on.launches.length = 0;
    decode(model, cache);
    const plain = on.launches.map((launch) => launch.name);
    assert.is(on.graphs.size, 0);
    decode(model, cache);
    const [[graph, recorded] = [0, []]] = on.graphs;
    assert.equal(
      recorded.slice(0, plain.length).map((launch) => launch.name),
      plain,
      'the same launches',
    );
    assert.is(recorded.length, plain.length, 'states are changed in place');
    on.launches.length = 0;
    on.uploads.length = 0;
    for (let step = 0; step < 3; step++) decode(model, cache);
    assert.equal(on.replays, [graph, graph, graph, graph]);
    assert.equal(
      on.launches.map((launch) => launch.name),
      ['copy', 'copy', 'copy'],
      'logits are copied out',
    );
    assert.is(cache.length, PROMPT + 5);
    const words = on.uploads.map(({ bytes }) => new Int32Array(bytes.buffer)[0]);
    assert.equal(words, [PROMPT + 2, 7, PROMPT + 3, 7, PROMPT + 4, 7], 'position and token');
    cache.dispose();
    assert.is(on.graphs.size, 0);
    assert.is(tf.memory().numTensors, tensors);
    assert.is(tf.memory().numDataBuffers, buffers);
    // Frequency and page tables stay.
    assert.ok(liveBytes(on) - before < 8192, `${liveBytes(on) - before} bytes are left`);
    model.dispose();
  });
}

test('the first run of a recording is checked against a step computed from the same state', async () => {
  const { on, model } = await started(CONFIGS['gated retention']);
  const cache = prompted(model, 64);
  decode(model, cache);
  on.launches.length = 0;
  decode(model, cache);
  const names = on.launches.map(({ name }) => name);
  const steps = names.filter((name) => name === 'retention_step');
  const differences = names.filter((name) => name.startsWith('binary_Sub'));
  // The logits and the self-decoder's state.
  assert.is(steps.length, 1);
  assert.is(differences.length, 2);
  const recorded = (on.graphs.get(1) ?? []).find(({ name }) => name === 'retention_step')?.args ?? [];
  const computed = on.launches.find(({ name }) => name === 'retention_step')?.args ?? [];
  assert.equal(recorded[5], recorded[7], 'recorded: in place');
  assert.not.equal(computed[5], computed[7], 'computed: from one state to another');
  assert.not.equal(computed[5], recorded[5], 'from a copy');
  cache.dispose();
  model.dispose();
});

test('every kernel that is launched early waits for the one before it', async () => {
  for (const config of [
    ...Object.values(CONFIGS),
    createConfig({ ...SHAPE, heads: 1, kvHeads: 1, dim: 36 }),
  ]) {
    const { on, model } = await started(config);
    overlap();
    const cache = prompted(model, 64);
    for (let step = 0; step < 3; step++) decode(model, cache);
    const early = [...on.launches, ...(on.graphs.get(1) ?? [])].filter(
      (launch) => launch.early !== undefined,
    );
    assert.ok(new Set(early.map(({ name }) => name)).size > 3);
    for (const launch of early) assert.ok(waits(launch), `${launch.name} of ${launch.early}`);
    cache.dispose();
    model.dispose();
  }
});

test('only GPUs that can make kernels wait start them early', async () => {
  for (const [architecture, expected] of [
    ['sm_90a', true],
    ['sm_120', true],
    ['sm_80', false],
    ['sm_89', false],
  ] as const) {
    const { on, model } = await started(CONFIGS.transformer);
    Object.assign(on.device.driver, { architecture });
    overlap();
    let early: boolean | undefined;
    const begin = on.device.driver.endCapture.bind(on.device.driver);
    on.device.driver.endCapture = () => {
      early = on.device.recording?.early;
      return begin();
    };
    const cache = prompted(model, 64);
    for (let step = 0; step < 2; step++) decode(model, cache);
    assert.is(early, expected, architecture);
    cache.dispose();
    model.dispose();
  }
});

test('positions are read from the device', async () => {
  const { on, model } = await started(CONFIGS.transformer);
  const cache = prompted(model, 64);
  decode(model, cache);
  decode(model, cache);
  const recorded = on.graphs.get(1) ?? [];
  const moving = recorded.flatMap(({ name, args }) => {
    const at = { page_write_rotated: 6, attention_split: 4 }[name];
    return at === undefined ? [] : [[name, args[at], args[at + 1]] as const];
  });
  const places = new Set(moving.map(([, place]) => (place?.kind === 'pointer' ? place.value : 0)));
  assert.is(places.size, 1);
  assert.not(places.has(0));
  const offsets = new Map(moving.map(([name, , offset]) => [name, offset]));
  assert.equal(offsets.get('page_write_rotated'), { kind: 'int32', value: 0 });
  assert.equal(offsets.get('attention_split'), { kind: 'int32', value: 1 });
  const split = recorded.find(({ name }) => name === 'attention_split');
  assert.ok((split?.grid[0] ?? 0) > 100, 'room for a growing cache');
  cache.dispose();
  model.dispose();
});

test('a full page, a fork, other steps and new weights end a recording', async () => {
  const { on, model } = await started(CONFIGS['gated retention']);
  const cache = model.createCache();
  tf.tidy(() => void model.prefill(tf.zeros([1, 4093], 'int32'), cache));
  const steps = (count: number): number => {
    const before = on.replays.length;
    for (let step = 0; step < count; step++) decode(model, cache);
    return on.replays.length - before;
  };
  assert.is(steps(3), 2, 'to the end of the page');
  assert.is(steps(3), 1, 'a new page, prepared, recorded');
  const fork = cache.fork();
  assert.is(steps(1), 0, 'what a fork shares is not written to');
  assert.is(steps(1), 1);
  fork.dispose();
  tf.tidy(() => void model.extend(tf.zeros([1, 3], 'int32'), cache, { logits: 'last' }));
  assert.is(steps(2), 2, 'recorded again: all is prepared');
  const [name] = model.parameters.keys();
  model.load(name as string, new Float32Array(model.parameters.get(name as string)?.size ?? 0));
  assert.is(steps(2), 1, 'other weights are prepared first');
  assert.is(on.graphs.size, 1, 'those before are gone');
  assert.is(cache.length, 4093 + 3 + 3 + 2 + 3 + 4);
  cache.dispose();
  model.dispose();
});

test('a cache that is full says so, recorded or not', async () => {
  const { model } = await started(CONFIGS.transformer);
  const cache = prompted(model, PROMPT + 4);
  for (let step = 0; step < 4; step++) decode(model, cache);
  assert.throws(() => {
    decode(model, cache);
  }, /cache holds 13 tokens/);
  cache.dispose();
  model.dispose();
});

test.after(async () => {
  await tf.setBackend('cpu');
});
test.run();
