/**
 * The one door to TensorFlow.js: `import * as tf from '../tf.js'`.
 *
 * Loading `@tensorflow/tfjs` beside the core registers the gradients of the standard kernels, which the core alone
 * does not have in Node. Only the core's interface is passed on: no layers, no data sets, no converter.
 */
import '@tensorflow/tfjs';
import { registerBackend, removeBackend } from '@tensorflow/tfjs-core';
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import { repairBatchMatMul } from './repeat-batches.js';

export * from '@tensorflow/tfjs-core';

/** Keeps a plain tfjs CPU backend from advertising other packages when it is first used. */
export function withoutBanner<T extends MathBackendCPU>(backend: T): T {
  return Object.assign(backend, { firstUse: false });
}

// The plain backend under tfjs' own name `cpu`: registered anew so that it, too, starts without the banner.
removeBackend('cpu');
registerBackend('cpu', () => withoutBanner(new MathBackendCPU()), 1);
repairBatchMatMul('cpu');
