/**
 * How an op reaches its kernel and its gradient. Both run outside the gradient tape: what is recorded is the op as
 * one step, whose gradient the op states itself.
 */
import * as tf from '../tf.js';
import { type KernelName, type Kernels, takesInputs } from './kernels.js';

/**
 * Runs the fused kernel of the current backend, or `compose` in a tidy where it has none for such inputs. Always returns a list:
 * the outputs in the order that `kernels.ts` states. Records no gradient: call it inside `differentiable`.
 */
export function runKernel<Name extends KernelName>(
  name: Name,
  inputs: Kernels[Name]['inputs'],
  attrs: Kernels[Name]['attrs'],
  compose: () => tf.Tensor[],
): tf.Tensor[] {
  if (!hasKernel(name) || !takesInputs(tf.getBackend(), name, inputs)) return tf.tidy(compose);
  const out = tf
    .engine()
    .runKernel<tf.Tensor | tf.Tensor[]>(name, present(inputs), attrs as unknown as tf.NamedAttrMap);
  return Array.isArray(out) ? out : [out];
}

type NamedTensors = Readonly<Record<string, tf.Tensor | undefined>>;

/** Leaves out the optional inputs that are not given. */
function present(inputs: NamedTensors): Record<string, tf.Tensor> {
  if (!Object.values(inputs).includes(undefined)) return inputs as Record<string, tf.Tensor>;
  return Object.fromEntries(
    Object.entries(inputs).filter((entry): entry is [string, tf.Tensor] => entry[1] !== undefined),
  );
}

/** Whether the current backend registered a fused kernel under this name. */
export function hasKernel(name: KernelName): boolean {
  return (tf.getKernel(name, tf.getBackend()) as tf.KernelConfig | undefined) !== undefined;
}

/** Whether ops are being recorded for a gradient, which will want what a fused op would not keep. */
export function isRecordingGradient(): boolean {
  return tf.engine().state.gradientDepth > 0;
}

/** Gradients by input name; a function is called only if the gradient of that input is needed. */
export type InputGradients = Readonly<Record<string, tf.Tensor | (() => tf.Tensor)>>;

export interface DifferentiableOp {
  /** Inputs with gradients (all float32). Integer inputs are captured by the functions below instead. */
  readonly inputs: NamedTensors;
  /** Computes the outputs; `save` keeps tensors for `backward`. Temporaries are disposed. */
  readonly forward: (save: (tensors: tf.Tensor[]) => void) => tf.Tensor[];
  /**
   * The gradients of the inputs from those of the outputs (zeros where an output was not used) and the saved tensors.
   * Must return new tensors, never `dys` or `saved` themselves. Temporaries are disposed.
   */
  readonly backward: (dys: tf.Tensor[], saved: tf.Tensor[]) => InputGradients;
}

/** The part of tfjs' engine that `tf.customGrad` is made of; that function allows for one output only. */
interface GradientEngine {
  runKernelFunc(step: {
    forwardFunc: (backend: unknown, save: (tensors: tf.Tensor[]) => void) => tf.Tensor[];
    backwardsFunc: (dys: tf.Tensor | tf.Tensor[], saved: tf.Tensor[]) => Record<string, () => tf.Tensor>;
    inputs: Readonly<Record<string, tf.Tensor>>;
  }): tf.Tensor[];
}

/** A step with any number of outputs whose gradient is `backward`. */
export function differentiable(op: DifferentiableOp): tf.Tensor[] {
  const engine = tf.engine() as unknown as GradientEngine;
  return engine.runKernelFunc({
    inputs: present(op.inputs),
    forwardFunc: (_, save) => op.forward(save),
    backwardsFunc: (dys, saved) => gradientsOf(op, Array.isArray(dys) ? dys : [dys], saved),
  });
}

function gradientsOf(
  op: DifferentiableOp,
  dys: tf.Tensor[],
  saved: tf.Tensor[],
): Record<string, () => tf.Tensor> {
  const { gradientDepth, activeScope } = tf.engine().state;
  /**
   * Frees what the step held as soon as its gradients are known: tfjs would keep every saved activation and every
   * intermediate gradient until the whole backward pass is over, about twice the memory. A dy that was made outside
   * the running backward pass belongs to the caller and stays.
   */
  const release = (): void => {
    if (gradientDepth > 0) return;
    for (const tensor of saved) tensor.dispose();
    for (const dy of dys) if (dy.scopeId === activeScope.id) dy.dispose();
  };

  const computed: Record<string, tf.Tensor | (() => tf.Tensor)> = {};
  tf.tidy(() => {
    Object.assign(computed, op.backward(dys, saved));
    return Object.values(computed).filter((value): value is tf.Tensor => typeof value !== 'function');
  });
  const names = Object.keys(present(op.inputs));
  const later = new Set(names.filter((name) => typeof computed[name] === 'function'));
  if (later.size === 0) release();

  const deliver = (name: string): tf.Tensor => {
    const value = computed[name];
    if (value === undefined) throw new Error(`the gradient of input '${name}' is missing`);
    if (typeof value !== 'function') return value;
    const gradient = value();
    later.delete(name);
    if (later.size === 0) release();
    return gradient;
  };
  return Object.fromEntries(names.map((name) => [name, () => deliver(name)]));
}
