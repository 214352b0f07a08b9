import { startCpu } from '../../../src/engines/cpu/index.js';
import { usePlainBackend, whyNotCpu } from '../../plain-backend.js';
import { testDefinitions, testKernels } from './runner.js';

// The compositions of tfjs operations on its plain backend, held to float64: what all engines are then held to. Here, since the
// plain backend takes longer than the engine, for what it gives to be computed once.
testDefinitions(usePlainBackend);

testKernels({
  engine: 'cpu',
  storage: 'float32',
  start: () => startCpu({ threads: 2 }),
  missing: whyNotCpu(),
});
