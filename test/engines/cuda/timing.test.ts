/** `tf.time` on the engine: the device's own clock around what is queued. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../../src/engines/cuda/index.js';
import * as tf from '../../../src/tf.js';
import { cudaBackend, gpuSuite } from './gpu.js';
import { standIn } from './stand-in.js';

const offline = suite('cuda timing without a GPU');

offline('what is timed is queued between the two readings of the clock', async () => {
  const { device, launches } = standIn();
  const seen: number[] = [];
  device.time = (run) => {
    seen.push(launches.length);
    run();
    seen.push(launches.length);
    return 2.5;
  };
  await startOn(device);
  const x = tf.ones([8]);
  const [before] = [launches.length];
  const { kernelMs } = await tf.time(() => {
    tf.dispose([tf.exp(x), tf.square(x)]);
  });
  x.dispose();
  await tf.setBackend('cpu');
  assert.is(kernelMs, 2.5);
  assert.equal(seen, [before, before + 2]);
});

offline.run();

const test = await gpuSuite('cuda timing', { storage: 'float32' });

test('events measure what the device does between them', async () => {
  await tf.setBackend('yoco-cuda');
  const x = tf.ones<tf.Rank.R2>([1024, 1024]);
  const multiply = (): void => {
    tf.dispose(tf.matMul(x, x));
  };
  multiply(); // chooses an algorithm, which takes time of its own
  const { kernelMs } = (await tf.time(multiply)) as { kernelMs: number };
  assert.ok(Number.isFinite(kernelMs) && kernelMs > 0, `${kernelMs} ms`);
  assert.ok(cudaBackend().device.time(() => undefined) >= 0);
  x.dispose();
});

test.run();
