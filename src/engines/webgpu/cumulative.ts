/**
 * Cumulative sums from the end backwards. Those of tfjs' WebGPU backend are wrong from 64 elements on, while its sums from the
 * beginning are right: so the elements are turned around before and after.
 */
import * as tf from '../../tf.js';

/** Replaces the kernel of a backend whose kernels were copied from `webgpu`. */
export function replaceCumsum(backend: string): void {
  const forward = tf.getKernel('Cumsum', backend).kernelFunc;
  tf.unregisterKernel('Cumsum', backend);
  tf.registerKernel({
    kernelName: 'Cumsum',
    backendName: backend,
    kernelFunc: ({ inputs, attrs, backend: storage }) => {
      const x = inputs.x as tf.TensorInfo;
      const { axis, exclusive, reverse } = attrs as { axis: number; exclusive: boolean; reverse: boolean };
      const [along = 0] = tf.util.parseAxisParam(axis, x.shape);
      const turn = (tensor: tf.TensorInfo): tf.TensorInfo =>
        tf.getKernel('Reverse', backend).kernelFunc({
          inputs: { x: tensor },
          attrs: { dims: [along] },
          backend: storage,
        }) as tf.TensorInfo;
      const sum = (tensor: tf.TensorInfo): tf.TensorInfo =>
        forward({
          inputs: { x: tensor },
          attrs: { axis: along, exclusive, reverse: false },
          backend: storage,
        }) as tf.TensorInfo;
      if (!reverse) return sum(x);
      const turned = turn(x);
      const sums = sum(turned);
      const found = turn(sums);
      for (const { dataId } of [turned, sums])
        (storage as Pick<tf.KernelBackend, 'disposeData'>).disposeData(dataId);
      return found;
    },
  });
}
