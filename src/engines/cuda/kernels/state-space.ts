import type { Kernels } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { binary } from './elementwise.js';
import { timeStep } from './fused.js';
import { isStep, retentionStep } from './retention-step.js';
import { retention, sum } from './retention.js';
import { registerFusedOp } from './register.js';

type StateSpaceOperands = Kernels['StateSpaceDual']['inputs'];

/** The state-space layer of Mamba-2: in one launch where the recurrence suits; as the kernels it is made of elsewhere. */
function stateSpace(backend: CudaBackend, inputs: StateSpaceOperands): TensorInfo[] {
  const { x, dt, b, c, dtBias, aLog, skip, state } = inputs;
  if (isStep(c)) {
    return retentionStep(backend, { q: c, k: b, v: x, gate: dt, space: { dtBias, aLog, skip }, state }, null);
  }
  const factor = (b.shape[3] ?? 1) ** 0.5;
  const [step, logDecay] = timeStep(backend, { x: dt, bias: dtBias, aLog }, factor);
  const [, , heads = 1] = x.shape;
  const v = binary(backend, 'Multiply', x, {
    dataId: step.dataId,
    dtype: 'float32',
    shape: [...dt.shape, 1],
  });
  const [retained, last] = retention(backend, { q: c, k: b, v, logDecay, state }) as [TensorInfo, TensorInfo];
  const perHead: TensorInfo = { dataId: skip.dataId, dtype: 'float32', shape: [heads, 1] };
  const skipped = binary(backend, 'Multiply', x, perHead);
  const output = sum(backend, [retained, skipped]);
  for (const info of [step, logDecay, v]) backend.release(info);
  return [output, last];
}

export function registerStateSpace(): void {
  registerFusedOp('StateSpaceDual', (inputs, _attrs, backend) => stateSpace(backend, inputs));
}
