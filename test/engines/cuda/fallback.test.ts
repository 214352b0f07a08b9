/** What models need has kernels: nothing of inference or training is computed on the host. On a device that computes nothing. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../../src/engines/cuda/index.js';
import { createModel, valueAndGradients } from '../../../src/model/index.js';
import { Optimizer } from '../../../src/training/optimizer.js';
import * as tf from '../../../src/tf.js';
import { CUDA } from './gpu.js';
import { standIn } from './stand-in.js';
import { CONFIGS, NAMES, decode, prompted } from './stand-in-models.js';

const test = suite('cuda engine: what runs on the host');

/** Names of the plain kernels that `work`, on the stand-in, falls back to. */
async function onHost(storage: 'float32' | 'bfloat16', work: () => void): Promise<string[]> {
  await startOn({ ...standIn().device, storage });
  const called: string[] = [];
  const kernels = tf.getKernelsForBackend('cpu');
  const originals = kernels.map(({ kernelFunc }) => kernelFunc);
  for (const kernel of kernels) {
    const { kernelName, kernelFunc } = kernel;
    kernel.kernelFunc = (parameters) => {
      called.push(kernelName);
      return kernelFunc(parameters);
    };
  }
  try {
    work();
  } finally {
    for (const [i, kernel] of kernels.entries()) kernel.kernelFunc = originals[i] ?? kernel.kernelFunc;
    await tf.setBackend('cpu');
  }
  return called;
}

/** One step: loss, gradients, update. */
function train(model: ReturnType<typeof createModel>): void {
  const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, clip: 1 };
  const optimizer = new Optimizer(model.parameters, options);
  const ids = tf.zeros<tf.Rank.R2>([2, 70], 'int32');
  const { value, gradients } = valueAndGradients(model, () => tf.mean(model.loss(ids, ids)));
  optimizer.apply(gradients, 1, 1e-3);
  tf.dispose([ids, value, ...gradients.values()]);
  optimizer.dispose();
}

for (const storage of ['bfloat16', 'float32'] as const) {
  for (const config of NAMES) {
    test(`${config}, ${storage}: scoring, prefill, decoding and training have kernels`, async () => {
      const called = await onHost(storage, () => {
        assert.is(tf.getBackend(), CUDA);
        const model = createModel(CONFIGS[config], { seed: 3 });
        tf.tidy(() => void model.forward(tf.zeros([2, 70], 'int32')));
        const cache = prompted(model, 64);
        for (let step = 0; step < 3; step++) decode(model, cache);
        cache.dispose();
        train(model);
        model.dispose();
      });
      assert.equal([...new Set(called)], []);
    });
  }
}

test('rare operations run on the host', async () => {
  const called = await onHost('bfloat16', () => {
    tf.dispose(Object.values(tf.tidy(() => tf.topk(tf.ones([4, 30]), 3))));
  });
  assert.equal(called, ['TopK']);
});

test.run();
