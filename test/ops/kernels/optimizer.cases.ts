/** AdamW, of one tensor and of many, and the norm of gradients. */
import { adamW, adamWAll, clipScale } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import type { KernelCase } from './contract.js';

const OPTIONS = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };

const ONE: readonly KernelCase[] = [[333], [33, 50], [2000]].map((shape) => ({
  name: `adamW, step after step, ${shape.join('x')}`,
  inputs: (make) => [make.normal(shape), make.normal(shape)],
  compute: (...[start, gradient]) => {
    const variable = (value: tf.Tensor): tf.Variable => tf.variable(value, false);
    const [parameter, first, second] = [
      variable(start as tf.Tensor),
      variable(tf.zeros(shape)),
      variable(tf.zeros(shape)),
    ] as const;
    for (let step = 1; step <= 3; step++) {
      const scale = step === 2 ? { scale: tf.scalar(0.5) } : {};
      const dy = tf.mul(gradient as tf.Tensor, step);
      adamW(parameter, dy, first, second, { ...OPTIONS, weightDecay: 0.1, step, ...scale });
    }
    const results = [parameter, first, second].map((x) => tf.mul(x, 1));
    tf.dispose([parameter, first, second]);
    return results;
  },
}));

/** Less and more than a piece of 8,192 elements, not multiples of a pack, one element. */
const SHAPES = [[1], [7], [8192], [3, 2731], [129, 257], [2]];

/** Three updates of all tensors; gradients follow the parameters in the inputs. */
function updateAll(inputs: readonly tf.Tensor[], scale?: number, sum = false): tf.Tensor[] {
  const updates = SHAPES.map((_, i) => {
    const [parameter, gradient] = [inputs[i], inputs[SHAPES.length + i]] as [tf.Tensor, tf.Tensor];
    const variable = (start: tf.Tensor): tf.Variable => tf.variable(start, false);
    return {
      parameter: variable(parameter),
      // A sum of one row stays float32 on the CUDA engine, beside gradients in storage.
      gradient: sum && gradient.rank === 2 ? tf.sum(tf.stack([gradient, gradient]), 0) : gradient,
      firstMoment: variable(tf.zerosLike(parameter)),
      secondMoment: variable(tf.zerosLike(parameter)),
      weightDecay: i % 2 === 0 ? 0 : 0.1,
    };
  });
  for (let step = 1; step <= 3; step++) {
    adamWAll(updates, { ...OPTIONS, step, ...(scale !== undefined && { scale: tf.scalar(scale) }) });
  }
  return updates.flatMap(({ parameter, firstMoment, secondMoment }) =>
    [parameter, firstMoment, secondMoment].map((variable) => {
      const values = tf.mul(variable, 1);
      variable.dispose();
      return values;
    }),
  );
}

const MANY: readonly KernelCase[] = [
  { name: 'adamWAll', scale: undefined, sum: false },
  { name: 'adamWAll, scaled', scale: 0.5, sum: false },
  { name: 'adamWAll, gradients of two storages', scale: undefined, sum: true },
].map(({ name, scale, sum }) => ({
  name,
  inputs: (make) => [...SHAPES, ...SHAPES].map((shape) => make.normal(shape)),
  compute: (...tensors) => updateAll(tensors, scale, sum),
}));

const CLIP: KernelCase = {
  name: 'clipScale',
  inputs: (make) => SHAPES.map((shape) => make.normal(shape)),
  compute: (...tensors) =>
    [1, 1e6].flatMap((clip) => {
      const { norm, scale } = clipScale(tensors, clip);
      return [norm, scale].map((value) => (typeof value === 'object' ? value : tf.scalar(value ?? 1)));
    }),
};

export const OPTIMIZER_CASES: readonly KernelCase[] = [...ONE, ...MANY, CLIP];
