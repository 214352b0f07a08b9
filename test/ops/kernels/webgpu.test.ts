import { startWebgpu } from '../../../src/engines/webgpu/index.js';
import { isSoftware, useDriver, whyNoWebgpu } from '../../engines/webgpu/driver.js';
import { testKernels } from './runner.js';

testKernels({
  engine: 'webgpu',
  storage: 'float32',
  start: async () => {
    const release = useDriver();
    await startWebgpu();
    return release;
  },
  missing: whyNoWebgpu,
  sample: isSoftware ? 'without a GPU for webgpu a sample of cases runs' : null,
  // The sine of a software driver.
  tolerance: 2e-4,
});
