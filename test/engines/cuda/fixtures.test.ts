/** On a GPU, in 16-bit storage: ops and whole models against the official PyTorch code in float32 (`../shared/fixtures`). */
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../../src/checkpoint/safetensors.js';
import * as tf from '../../../src/tf.js';
import { type Accuracy, type Kind, SCHEDULES, checkCase } from '../../model/official.js';
import { FUNCTIONS, attentionOutcomes, retentionOutcomes } from '../../ops/official.js';
import { sharedPath } from '../../shared.js';
import { TOLERANCE, relativeError } from '../../ops/relative-error.js';
import { gpuSuite } from './gpu.js';

/**
 * ‖found − official‖ / ‖official‖ of the official models with their four layers, weights rounded to storage: about what Hopper
 * shows. Values stay within a kernel's 2 %. Gradients pass all layers twice; the smallest float16 ones lose bits below 6e-5.
 */
const ERRORS: Readonly<Record<'bfloat16' | 'float16', Readonly<Record<Kind, number>>>> = {
  bfloat16: {
    logits: 2e-2,
    hidden: 2e-2,
    state: 2e-2,
    losses: 4e-3,
    loss: 5e-4,
    gradient: 4e-2,
    'gradient norm': 2e-2,
    'decay gradient': 0.1,
    'decay gradient norm': 0.1,
  },
  float16: {
    logits: 3e-3,
    hidden: 3e-3,
    state: 3e-3,
    losses: 5e-4,
    loss: 1e-4,
    gradient: 2e-2,
    'gradient norm': 1e-2,
    'decay gradient': 0.1,
    'decay gradient norm': 2e-2,
  },
};
/** A choice is the official one where that leads by more than the largest error of a logit. */
const LEADS = { bfloat16: 0.08, float16: 0.01 } as const;

function accuracyOf(storage: 'bfloat16' | 'float16'): Accuracy {
  return {
    check(found, expected, kind, name) {
      const error = relativeError(found, expected);
      assert.ok(error <= ERRORS[storage][kind], `${name}: off by ${error}`);
    },
    lead: LEADS[storage],
  };
}

const missing = (file: string): string | undefined =>
  sharedPath(file) === null ? `needs ../shared/${file}` : undefined;

for (const storage of ['bfloat16', 'float16'] as const) {
  const test = await gpuSuite(`cuda official fixtures, ${storage}`, { storage });

  for (const [title, outcomes] of [
    ['attention', attentionOutcomes],
    ['retention', retentionOutcomes],
  ] as const) {
    test(
      `${title}: values and gradients`,
      () => {
        const golden = SafetensorsFile.open(sharedPath(FUNCTIONS) ?? '');
        tf.tidy(() => {
          for (const { name, found, expected } of outcomes(golden)) {
            test.errors.holdRows(name, TOLERANCE[storage], found.dataSync(), expected, found.shape);
          }
        });
        golden.close();
      },
      missing(FUNCTIONS),
    );
  }

  for (const [name, schedules] of Object.entries(SCHEDULES)) {
    test(
      `${name}: logits, loss, gradients, states, greedy decoding`,
      () => {
        checkCase(sharedPath(`fixtures/${name}`) ?? '', schedules, accuracyOf(storage));
      },
      missing(`fixtures/${name}`),
    );
  }
  test.run();
}
