/** The gradient of causal attention; formulas in `ops/attention/causal-attention-gradient.ts`. */
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { graph } from '../graph.js';
import {
  blocksOf,
  computeScores,
  groupedRows,
  groupShape,
  type GroupShape,
  headsFirst,
  keysOf,
  rowsFrom,
  ungroupedRows,
} from './attention-scores.js';

export const causalAttentionGrad: FusedKernel<'CausalAttentionGrad', CpuBackend> = (
  inputs,
  attrs,
  backend,
) => {
  const { dy, q, k, v, out } = inputs;
  const shape = groupShape(inputs);
  const [kvHeads, group, width] = shape;
  const { runtime } = backend;
  const [dq, dk, dv] = [backend.output(q.shape), backend.output(k.shape), backend.output(v.shape)];
  backend.floats(dk).fill(0);
  backend.floats(dv).fill(0);
  for (const block of blocksOf(inputs, attrs)) {
    const keySize = block.keys * kvHeads * width;
    const scoreSize = kvHeads * group * block.length * block.keys;
    backend.withScratch([scoreSize, keySize, keySize], ([scores, dKeys, dValues]) => {
      computeScores(backend, inputs, block, attrs, scores);
      const queryDims = [block.length, ...shape];
      const keyDims = [block.keys, kvHeads, width];
      const feeds = {
        scores: runtime.wrap(scores, [kvHeads, group * block.length, block.keys]),
        q: runtime.wrap(rowsFrom(backend, q, block), queryDims),
        dy: runtime.wrap(rowsFrom(backend, dy, block), queryDims),
        out: runtime.wrap(rowsFrom(backend, out, block), queryDims),
        k: runtime.wrap(rowsFrom(backend, k, keysOf(block)), keyDims),
        v: runtime.wrap(rowsFrom(backend, v, keysOf(block)), keyDims),
      };
      const fetches = {
        dq: runtime.wrap(rowsFrom(backend, dq, block), queryDims),
        dk: runtime.wrap(dKeys, keyDims),
        dv: runtime.wrap(dValues, keyDims),
      };
      const define = () => blockGradient(shape, attrs.scale);
      backend.run(`AttentionGrad/${shape.join()}/${attrs.scale}`, define, feeds, fetches);
      accumulate(rowsFrom(backend, dk, keysOf(block)), dKeys);
      accumulate(rowsFrom(backend, dv, keysOf(block)), dValues);
    });
  }
  return [dq, dk, dv];
};

function blockGradient(shape: GroupShape, scale: number) {
  const [kvHeads, , width] = shape;
  return graph((g) => {
    const queryRows = (name: string) => groupedRows(g, g.input(name, 4), kvHeads, width);
    const keyRows = (name: string) => headsFirst(g, g.input(name, 3));
    const [q, dy, out, k, v] = [
      queryRows('q'),
      queryRows('dy'),
      queryRows('out'),
      keyRows('k'),
      keyRows('v'),
    ];
    const weights = g.op('Softmax', [g.input('scores', 3)], { axis: -1 });
    const along = g.op('ReduceSum', [g.op('Mul', [dy, out]), g.integers(2)], { keepdims: 1 });
    const dWeights = g.product(dy, v, { transB: 1 });
    const dScores = g.op('Mul', [weights, g.op('Sub', [dWeights, along])]);
    g.output('dq', 4, ungroupedRows(g, g.product(dScores, k, { alpha: scale }), shape));
    g.output('dk', 3, headsFirst(g, g.product(dScores, q, { transA: 1, alpha: scale })));
    g.output('dv', 3, headsFirst(g, g.product(weights, dy, { transA: 1 })));
  });
}

function accumulate(sum: Floats, part: Floats): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (part[i] as number);
}
