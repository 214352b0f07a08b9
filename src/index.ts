/**
 * The library: what `import { loadModel, profileMemory } from 'yoco'` gives. docs/library.md has an example. All tensors
 * are of the TensorFlow.js passed on as `tf`; models compute on the engine that was started last.
 */
export * from './library/basics.js';
export * from './library/engines.js';
export * from './library/evaluation.js';
export * from './library/generation.js';
export * from './library/models.js';
export * from './library/profiling.js';
export * from './library/results.js';
export * from './library/text.js';
export * from './library/training.js';
export * as tf from './tf.js';
