/** Recorded training steps on a GPU: their numbers are those of computed ones. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCuda } from '../../../src/engines/cuda/index.js';
import { createModel, type ModelConfig } from '../../../src/model/index.js';
import * as tf from '../../../src/tf.js';
import { measureLosses } from '../../../src/training/step.js';
import { skipBecause } from '../../skip.js';
import { whyNoGpu } from './gpu.js';
import { LENGTH, MODELS, NAMES, ROWS, Training } from './training-steps.js';

/** Everything that a run leaves, to the last bit. */
function trained(
  config: ModelConfig,
  recompute: boolean,
  isRecorded: boolean,
): { numbers: string[]; computed: number } {
  const model = createModel(config, { seed: 5 });
  const training = new Training(model, recompute);
  const numbers: string[] = [];
  const steps = (count: number, length: number): void => {
    for (let i = 0; i < count; i++) {
      const { losses, norm } = training.run(ROWS, length, isRecorded);
      numbers.push(`step ${training.step}: ${losses.text} ${norm}`);
    }
  };
  steps(6, LENGTH);
  numbers.push(`held out: ${measureLosses(model, training.batch(3, 2 * LENGTH)).text}`);
  steps(3, LENGTH);
  steps(4, 2 * LENGTH);
  const state = training.optimizer.state();
  for (const [name, tensor] of [...model.parameters, ...state]) {
    const values = tensor.dataSync();
    numbers.push(
      `${name} ${Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64')}`,
    );
  }
  tf.dispose([...state.values()]);
  training.dispose();
  model.dispose();
  return { numbers, computed: training.computed };
}

const reason = await whyNoGpu();
for (const storage of ['bfloat16', 'float16'] as const) {
  for (const poison of [true, false]) {
    const onGpu = suite(`cuda training, ${storage}${poison ? ', poisoned' : ''}`);
    onGpu.before(async () => {
      if (reason === null) await startCuda({ storage, poison });
    });
    onGpu.after(async () => {
      await tf.setBackend('cpu');
    });
    for (const name of NAMES) {
      const title = `${name}: recorded steps equal computed ones`;
      if (reason !== null) {
        skipBecause(reason, onGpu, title);
        continue;
      }
      onGpu(title, () => {
        for (const recompute of [false, true]) {
          const expected = trained(MODELS[name], recompute, false);
          const found = trained(MODELS[name], recompute, true);
          assert.is(found.computed, 4, 'all others are recorded');
          expected.numbers.forEach((value, i) => {
            const other = found.numbers[i] ?? '';
            assert.ok(other === value, `${value.slice(0, 60)} is ${other.slice(0, 60)}`);
          });
        }
      });
    }
    onGpu.run();
  }
}
