import { startTensorflow } from '../../../src/engines/tensorflow/index.js';
import { whyNoTensorflow } from '../../engines/tensorflow/build.js';
import { testKernels } from './runner.js';

testKernels({
  engine: 'tensorflow',
  storage: 'float32',
  start: () => startTensorflow(),
  missing: await whyNoTensorflow(),
});
