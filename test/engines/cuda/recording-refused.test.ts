/** Decoding steps that are not recorded, or whose recording fails, on a device that computes nothing: decoding continues. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cudaRecorder } from '../../../src/engines/cuda/recorder.js';
import { OutOfMemoryError, RunError } from '../../../src/errors.js';
import { createConfig } from '../../../src/model/index.js';
import { registerRecorder } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { CUDA, cudaBackend } from './gpu.js';
import { CONFIGS, decode, liveBytes, NAMES, overlap, PROMPT, prompted, SHAPE, refused, silenced, started } from './stand-in-models.js'; // prettier-ignore

const test = suite('recording refused');

for (const name of NAMES) {
  test(`${name}: a recording that does not give the computed step is not used again`, async () => {
    const { on, model } = await started(CONFIGS[name]);
    const [bytes, tensors, buffers] = [liveBytes(on), tf.memory().numTensors, tf.memory().numDataBuffers];
    const cache = prompted(model, 64);
    decode(model, cache);
    // Every difference that is read is one.
    on.device.driver.download = (host) => {
      (host as Float32Array).fill(1);
    };
    const lines = refused(() => {
      for (let step = 0; step < 4; step++) decode(model, cache);
    });
    assert.equal(lines, ['the recorded step and the computed one differ']);
    assert.is(on.replays.length, 1);
    assert.is(on.graphs.size, 0);
    assert.is(cache.length, PROMPT + 5);
    cache.dispose();
    assert.is(tf.memory().numTensors, tensors);
    assert.is(tf.memory().numDataBuffers, buffers);
    assert.ok(liveBytes(on) - bytes < 8192, `${liveBytes(on) - bytes} bytes are left`);
    model.dispose();
  });
}

test('where recording fails, decoding continues, and the model says so once', async () => {
  const { on, model } = await started(CONFIGS['gated retention']);
  const cache = prompted(model, 64);
  decode(model, cache);
  const launch = on.device.launch.bind(on.device);
  on.device.launch = (kernel, ...rest) => {
    if (on.device.recording !== null && kernel.name === 'page_write_rotated') throw new Error('no such luck');
    launch(kernel, ...rest);
  };
  const lines = refused(() => {
    for (let step = 0; step < 3; step++) decode(model, cache);
    const other = prompted(model, 64);
    for (let step = 0; step < 3; step++) decode(model, other);
    other.dispose();
  });
  assert.is(on.device.recording, null);
  assert.equal(lines, ['no such luck']);
  assert.is(cache.length, PROMPT + 4);
  assert.is(on.replays.length, 0);
  cache.dispose();
  model.dispose();
});

test('a cache without room for a recording is decoded, and the next one is recorded', async () => {
  const { on, model } = await started(CONFIGS['gated retention']);
  const cache = prompted(model, 64);
  decode(model, cache);
  const { allocator } = on.device;
  const allocate = allocator.allocate.bind(allocator);
  allocator.allocate = (bytes) => {
    if (on.device.recording !== null) throw new OutOfMemoryError('out of GPU memory');
    return allocate(bytes);
  };
  const [bytes, tensors] = [liveBytes(on), tf.memory().numTensors];
  const lines = refused(() => {
    for (let step = 0; step < 3; step++) decode(model, cache);
  });
  assert.equal(lines, ['not enough memory for a recorded step']);
  assert.equal([cache.length, on.replays.length, on.graphs.size], [PROMPT + 4, 0, 0]);
  assert.equal([liveBytes(on), tf.memory().numTensors], [bytes, tensors]);
  allocator.allocate = allocate;
  decode(model, cache);
  assert.is(on.replays.length, 0, 'this cache is not tried again');
  const other = prompted(model, 64);
  for (let step = 0; step < 3; step++) decode(model, other);
  assert.is(on.replays.length, 2);
  cache.dispose();
  other.dispose();
  model.dispose();
});

test('a recording that cannot begin, end, or be launched leaves nothing behind', async () => {
  for (const method of ['beginCapture', 'endCapture', 'launchGraph'] as const) {
    const { on, model } = await started(CONFIGS['gated retention']);
    registerRecorder(CUDA, cudaRecorder(cudaBackend(), { early: false }));
    const cache = prompted(model, 64);
    decode(model, cache);
    const [bytes, tensors] = [liveBytes(on), tf.memory().numTensors];
    on.device.driver[method] = () => {
      throw new RunError('CUDA error 900');
    };
    const lines = refused(() => {
      for (let step = 0; step < 3; step++) decode(model, cache);
    });
    assert.is(lines.length, 1);
    assert.is(on.device.recording, null);
    assert.is(on.replays.length, 0);
    assert.is(cache.length, PROMPT + 4);
    assert.is(liveBytes(on), bytes);
    assert.is(tf.memory().numTensors, tensors);
    cache.dispose();
    model.dispose();
  }
});

test('tokens of another type or number are left to the computed step', async () => {
  const { on, model } = await started(CONFIGS.transformer);
  const cache = prompted(model, 64);
  for (let step = 0; step < 3; step++) decode(model, cache);
  const replays = on.replays.length;
  tf.tidy(() => void model.decode(tf.tensor1d([7], 'float32'), cache));
  assert.is(on.replays.length, replays);
  assert.throws(() => {
    tf.tidy(() => void model.decode(tf.tensor1d([7, 7], 'int32'), cache));
  }, /cache is for 1 sequences/);
  decode(model, cache);
  assert.is(on.replays.length, replays + 1);
  cache.dispose();
  model.dispose();
});

test('a driver that refuses early launches gets a recording without', async () => {
  const { on, model } = await started(CONFIGS['gated retention']);
  overlap();
  const cache = prompted(model, 64);
  const { driver } = on.device;
  const endCapture = driver.endCapture.bind(driver);
  const early: (boolean | undefined)[] = [];
  driver.endCapture = () => {
    early.push(on.device.recording?.early);
    if (on.device.recording?.early === true) throw new RunError('CUDA error 1 in cuStreamEndCapture');
    return endCapture();
  };
  const lines = silenced(() => {
    for (let step = 0; step < 4; step++) decode(model, cache);
  });
  assert.equal(early, [true, false]);
  assert.is(on.replays.length, 2);
  assert.is(cache.length, PROMPT + 4);
  assert.is(lines.length, 1);
  cache.dispose();
  model.dispose();
});

test('attention that cannot follow a growing cache is not recorded', async () => {
  const { on, model } = await started(createConfig({ ...SHAPE, architecture: 'transformer', dim: 48 }));
  const cache = prompted(model, 64);
  refused(() => {
    for (let step = 0; step < 3; step++) decode(model, cache);
  });
  assert.is(on.replays.length, 0);
  assert.is(cache.length, PROMPT + 3);
  cache.dispose();
  model.dispose();
});

test.after(async () => {
  await tf.setBackend('cpu');
});
test.run();
