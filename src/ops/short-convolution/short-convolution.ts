/**
 * Causal depthwise convolution over a few positions, as state-space and delta-rule layers have it before they mix (H3, arXiv
 * 2212.14052; Mamba, arXiv 2312.00752): with K taps a channel, the last of which is of the present position,
 *
 *     y_t = f(bias + Σ_j weight_j x_{t-K+1+j})        f: the identity, or silu(z) = z sigmoid(z)
 *
 * What it needs of earlier positions is their last K - 1 inputs, which are its state.
 */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';
import { sliceAxis } from '../reshape.js';

export interface ConvolutionOptions {
  /** [D] */
  readonly bias?: tf.Tensor1D;
  /** The K - 1 inputs before the first position, oldest first: [B, K - 1, D]; absent: zeros. */
  readonly state?: tf.Tensor3D;
  /** Whether the result goes through silu. Default false. */
  readonly silu?: boolean;
}

export interface ConvolutionResult {
  /** [B, T, D] */
  readonly output: tf.Tensor3D;
  /** The last K - 1 inputs, [B, K - 1, D]. */
  readonly state: tf.Tensor3D;
}

/**
 * @param x [B, T, D]
 * @param weight [D, 1, K], as PyTorch's depthwise Conv1d keeps it; K is at least 2
 * @throws RangeError for shapes that do not fit
 */
export function shortConvolution(
  x: tf.Tensor3D,
  weight: tf.Tensor3D,
  { bias, state, silu = false }: ConvolutionOptions = {},
): ConvolutionResult {
  checkShapes(x, weight, bias, state);
  const inputs = { x, weight, bias, state };
  const attrs = { silu };
  const [output, next] = differentiable({
    inputs,
    forward: (save) => {
      save([x, weight, ...(bias ? [bias] : []), ...(state ? [state] : [])]);
      return runKernel('ShortConvolution', inputs, attrs, () => compose(inputs, silu));
    },
    backward: ([dOutput, dState], saved) => {
      const [x, weight] = saved as [tf.Tensor3D, tf.Tensor3D];
      const held = { bias: bias && (saved[2] as tf.Tensor1D), state: state && (saved.at(-1) as tf.Tensor3D) };
      const all = { dOutput: dOutput as tf.Tensor3D, dState: dState as tf.Tensor3D, x, weight, ...held };
      const [dx, dWeight, dInitial, dBias] = runKernel('ShortConvolutionGrad', all, attrs, () =>
        composeGradient(all, silu),
      ) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor?];
      if (!state) dInitial.dispose();
      return { x: dx, weight: dWeight, ...(state && { state: dInitial }), ...(dBias && { bias: dBias }) };
    },
  });
  return { output: output as tf.Tensor3D, state: next as tf.Tensor3D };
}

function checkShapes(x: tf.Tensor3D, weight: tf.Tensor3D, bias?: tf.Tensor1D, state?: tf.Tensor3D): void {
  const [batch, time, width] = x.shape;
  const taps = weight.shape[2];
  const check = (name: string, tensor: tf.Tensor | undefined, expected: number[]): void => {
    if (tensor === undefined || tensor.shape.join() === expected.join()) return;
    throw new RangeError(
      `shortConvolution: ${name} is [${tensor.shape.join()}], must be [${expected.join()}]`,
    );
  };
  if (time < 1 || taps < 2) throw new RangeError('shortConvolution: at least 1 position and 2 taps');
  check('weight', weight, [width, 1, taps]);
  check('bias', bias, [width]);
  check('state', state, [batch, taps - 1, width]);
}

interface Operands {
  readonly x: tf.Tensor3D;
  readonly weight: tf.Tensor3D;
  readonly bias?: tf.Tensor1D;
  readonly state?: tf.Tensor3D;
}

/** The state (or zeros) before x: [B, K - 1 + T, D], of whose position t + j tap j of position t reads. */
function padded({ x, weight, state }: Operands): tf.Tensor3D {
  const [batch, , width] = x.shape;
  return tf.concat([state ?? tf.zeros([batch, weight.shape[2] - 1, width]), x], 1);
}

/** Tap j of every channel, [D]. */
function tap(weight: tf.Tensor3D, j: number): tf.Tensor1D {
  return tf.reshape(sliceAxis(weight, 2, j, 1), [weight.shape[0]]);
}

/** Before silu, [B, T, D]. */
function convolve(inputs: tf.Tensor3D, { x, weight, bias }: Operands): tf.Tensor3D {
  const time = x.shape[1];
  let sum: tf.Tensor3D = tf.mul(sliceAxis(inputs, 1, 0, time), tap(weight, 0));
  for (let j = 1; j < weight.shape[2]; j++)
    sum = tf.add(sum, tf.mul(sliceAxis(inputs, 1, j, time), tap(weight, j)));
  return bias ? tf.add(sum, bias) : sum;
}

function compose(operands: Operands, silu: boolean): tf.Tensor[] {
  const inputs = padded(operands);
  const sum = convolve(inputs, operands);
  const last = sliceAxis(inputs, 1, operands.x.shape[1], operands.weight.shape[2] - 1);
  return [silu ? tf.mul(sum, tf.sigmoid(sum)) : sum, last];
}

interface GradientOperands extends Operands {
  readonly dOutput: tf.Tensor3D;
  readonly dState: tf.Tensor3D;
}

/** Outputs: dx, dWeight, dState and, with a bias, dBias. */
function composeGradient(operands: GradientOperands, silu: boolean): tf.Tensor[] {
  const { x, weight, bias, dOutput, dState } = operands;
  const [batch, time, width] = x.shape;
  const taps = weight.shape[2];
  const inputs = padded(operands);
  const dSum = silu ? tf.mul<tf.Tensor3D>(dOutput, siluSlope(convolve(inputs, operands))) : dOutput;
  // The last K - 1 inputs are the final state as well.
  const parts: tf.Tensor3D[] = [tf.zeros([batch, time, width]), dState];
  let dInputs: tf.Tensor3D = tf.concat(parts, 1);
  const dTaps: tf.Tensor[] = [];
  for (let j = 0; j < taps; j++) {
    const later = taps - 1 - j;
    const moved = tf.pad3d(dSum, [[0, 0], [j, later], [0, 0]]); // prettier-ignore
    dInputs = tf.add(dInputs, tf.mul(moved, tap(weight, j)));
    dTaps.push(tf.sum(tf.mul(dSum, sliceAxis(inputs, 1, j, time)), [0, 1]));
  }
  return [
    sliceAxis(dInputs, 1, taps - 1, time),
    tf.reshape(tf.stack(dTaps, 1), weight.shape),
    sliceAxis(dInputs, 1, 0, taps - 1),
    ...(bias ? [tf.sum(dSum, [0, 1])] : []),
  ];
}

/** s (1 + z s̄) with s = sigmoid(z) and s̄ = sigmoid(-z), which keeps its digits where s is nearly 1. */
function siluSlope(z: tf.Tensor3D): tf.Tensor3D {
  return tf.mul(tf.sigmoid(z), tf.add(tf.mul(z, tf.sigmoid(tf.neg(z))), 1));
}
