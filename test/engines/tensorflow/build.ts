/** A build of `@tensorflow/tfjs-node-gpu`: installed beside the toolkit, or in the folder that `YOCO_TENSORFLOW` names. */
import { RunError } from '../../../src/errors.js';
import { startTensorflow } from '../../../src/engines/tensorflow/index.js';
import * as tf from '../../../src/tf.js';

/** Why the engine cannot be tested here, or null. */
export async function whyNoTensorflow(): Promise<string | null> {
  try {
    await startTensorflow();
    await tf.setBackend('cpu');
    return null;
  } catch (error) {
    if (error instanceof RunError) return error.message;
    throw error;
  }
}
