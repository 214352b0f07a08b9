import { startCpu } from '../../../src/engines/cpu/index.js';
import { loadNative } from '../../../src/engines/cpu/native/library.js';
import { testKernels } from './runner.js';

testKernels({
  engine: 'cpu',
  storage: 'float32',
  start: () => startCpu({ threads: 2 }, { native: true }),
  missing: loadNative(1) === null ? 'no C compiler when the package was installed' : null,
  sample: 'with the kernels in C a sample of cases runs',
});
