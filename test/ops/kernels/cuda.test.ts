import { startCuda } from '../../../src/engines/cuda/index.js';
import { whyNoGpu } from '../../engines/cuda/gpu.js';
import { testKernels } from './runner.js';

const missing = await whyNoGpu();

for (const storage of ['float32', 'bfloat16', 'float16'] as const) {
  // New memory is full of NaNs: what a kernel fails to write shows.
  testKernels({ engine: 'cuda', storage, start: () => startCuda({ storage, poison: true }), missing });
}
