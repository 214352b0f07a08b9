/** Causal attention; `ops/attention`. Which route a call takes depends on what the queries see. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { graph } from '../graph.js';
import { flashAttention, flashable } from './attention-flash.js';
import { attendByScores } from './attention-scores.js';

export const causalAttention: FusedKernel<'CausalAttention', CpuBackend> = ({ q, k, v }, attrs, backend) => {
  const out = backend.output(q.shape);
  // The gradient recomputes whole rows of scores, so it needs no logSumExp.
  const result = [out, backend.output([0])];
  if (attrs.positions !== null || !flashable(q)) {
    attendByScores(backend, { q, k, v, out }, attrs);
    return result;
  }
  const [batch, length, heads, width] = k.shape as [number, number, number, number];
  // Room for the views of a window, which reach past the last head by less than its length.
  const size = (batch * heads + 1) * length * width;
  backend.withScratch([size, size], ([keys, values]) => {
    transposeHeads(backend, k, keys);
    transposeHeads(backend, v, values);
    flashAttention(backend, q, { keys, values, heads, capacity: length, length }, out, attrs);
  });
  return result;
};

/** [B, T, H, D] as [B, H, T, D]. */
function transposeHeads(backend: CpuBackend, x: TensorInfo, target: Floats): void {
  const [batch, time, heads, width] = x.shape as [number, number, number, number];
  const define = () =>
    graph((g) => {
      g.output('y', 4, g.op('Transpose', [g.input('x', 4)], { perm: [0, 2, 1, 3] }));
    });
  const y = target.subarray(0, batch * time * heads * width);
  const fetches = { y: backend.runtime.wrap(y, [batch, heads, time, width]) };
  backend.run('TransposeHeads', define, { x: backend.onnx(x) }, fetches);
}
