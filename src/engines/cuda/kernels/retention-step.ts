/** Gated retention of a few positions: the recurrence itself, in one launch. */
import type { RotationAttributes } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { type KernelArgument, int32, pointer } from '../launch.js';
import type { CaptureContext } from '../capture.js';
import { RETENTION_STEP_SHAPE } from '../structs.js';
import { TILES } from '../tiles.js';
import { headWidth } from './attention-problem.js';
import { rotationArguments } from './rotary.js';

/** Sequences up to this length take the recurrence, with key columns up to this. */
const FEW_POSITIONS = 16;
const WIDEST = 256;
const { COLUMNS, PARTS } = TILES.retention_step;

interface StepOperands {
  q: TensorInfo;
  k: TensorInfo;
  v: TensorInfo;
  state?: TensorInfo;
  /** Float32; or else the gate's logits, in storage, with their normalizer or, of a state space, its parameters. */
  logDecay?: TensorInfo;
  gate?: TensorInfo;
  normalizer?: number;
  space?: { readonly dtBias: TensorInfo; readonly aLog: TensorInfo; readonly skip: TensorInfo };
}

/** Whether the recurrence suits queries of this shape. */
export function isStep(q: TensorInfo): boolean {
  const [, time = 1, , keyWidth = 1] = q.shape;
  return time <= FEW_POSITIONS && keyWidth <= WIDEST;
}

/** States that a recorded step has written: from then on they are not those that its last run left. */
const written = new WeakMap<CaptureContext, WeakSet<object>>();

/** Whether no kernel of the step so far has written this state, which the step is about to write in place. */
function isSettled(recording: CaptureContext, state: TensorInfo): boolean {
  const states = written.get(recording) ?? new WeakSet<object>();
  written.set(recording, states);
  const isFirst = !states.has(state.dataId);
  states.add(state.dataId);
  return isFirst;
}

/**
 * Where the state after a step goes: over the one before it where a recorded step replaces that, else to a new tensor. And whether
 * the one before it is `settled` (retention_step.cu).
 */
export function placeOfState(
  backend: CudaBackend,
  state: TensorInfo | undefined,
  shape: number[],
): { last: TensorInfo; settled: boolean } {
  const { recording } = backend.device;
  if (state === undefined || recording?.isReplaced(state) !== true)
    return { last: backend.output(shape, 'float32', 'float32'), settled: false };
  return { last: backend.alias(state, shape), settled: isSettled(recording, state) };
}

/** Of operands for which {@link isStep} holds. */
export function retentionStep(
  backend: CudaBackend,
  operands: StepOperands,
  rotation: RotationAttributes | null,
): TensorInfo[] {
  const { q, k, v, state, logDecay, gate, space } = operands;
  const [batch = 1, , , keyWidth = 1] = q.shape;
  const [, , heads = 1, valueWidth = 1] = v.shape;
  const out = backend.output(v.shape);
  const shape = [batch, heads, keyWidth, valueWidth];
  const { last, settled } = placeOfState(backend, state, shape);
  const wide = (info: TensorInfo | undefined): number => (info ? backend.pointer(info, 'float32') : 0);
  const args = [
    ...[q, k, v].map((info) => pointer(backend.pointer(info))),
    pointer(wide(logDecay)),
    pointer(gate ? backend.pointer(gate) : 0),
    pointer(wide(state)),
    pointer(backend.pointer(out)),
    pointer(wide(last)),
    shapeArgument(operands),
    ...rotationArguments(backend, rotation),
    ...[space?.dtBias, space?.aLog, space?.skip].map((info) => pointer(wide(info))),
    int32(settled ? 1 : 0),
  ];
  const kernel = { file: 'retention_step', name: 'retention_step', head: headWidth(keyWidth), early: true };
  backend.launch(kernel, [Math.ceil(valueWidth / COLUMNS), heads, batch], COLUMNS * PARTS, args);
  return [out, last];
}

/** `Shape` of retention_step.cu. */
function shapeArgument({ q, v, space, normalizer = 1 }: StepOperands): KernelArgument {
  const [, time = 1, groups = 1, keyWidth = 1] = q.shape;
  const [, , heads = 1, valueWidth = 1] = v.shape;
  const [group, scale, inverse] = [heads / groups, space ? 1 : keyWidth ** -0.5, 1 / normalizer];
  return RETENTION_STEP_SHAPE.argument({ time, heads, keyWidth, valueWidth, group, scale, inverse });
}
