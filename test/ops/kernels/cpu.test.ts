import { startCpu } from '../../../src/engines/cpu/index.js';
import { whyNotCpu } from '../../plain-backend.js';
import { testKernels } from './runner.js';

testKernels({
  engine: 'cpu',
  storage: 'float32',
  start: () => startCpu({ threads: 2 }),
  missing: whyNotCpu(),
});
