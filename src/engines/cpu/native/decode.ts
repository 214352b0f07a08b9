/** The ops of a decoding step by the kernels in C, in a form that can be recorded (`recorder.ts`); others go to ONNX Runtime. */
import type { FusedKernel } from '../../../ops/kernels.js';
import { rotaryTable } from '../../../ops/rotary/phases.js';
import type { CpuBackend } from '../backend.js';
import { logDecay as manyDecays } from '../fused/decay.js';
import { checkIds, embedding as manyRows } from '../fused/embedding.js';
import { writeRows } from '../fused/pages.js';
import { sizesOf } from '../fused/segments.js';
import type { Native } from './library.js';

/** So many elements take less time here than a call. */
const FEW_ELEMENTS = 1024;

export const embedding: FusedKernel<'Embedding', CpuBackend> = (inputs, attrs, backend) => {
  const { weight, ids } = inputs;
  const [vocabSize, width] = weight.shape as [number, number];
  if (ids.size * width > FEW_ELEMENTS) return manyRows(inputs, attrs, backend);
  const { scale } = attrs;
  const y = backend.output([...ids.shape, width]);
  const [rows, numbers, target] = [backend.floats(weight), backend.integers(ids), backend.floats(y)];
  backend.launch(() => {
    checkIds(numbers, vocabSize);
    numbers.forEach((id, i) => {
      for (let j = 0; j < width; j++) target[i * width + j] = (rows[id * width + j] as number) * scale;
    });
  });
  return [y];
};

export const logDecay: FusedKernel<'LogDecay', CpuBackend> = (inputs, attrs, backend) => {
  const { x } = inputs;
  if (x.size > FEW_ELEMENTS) return manyDecays(inputs, attrs, backend);
  const y = backend.output(x.shape);
  const [values, target] = [backend.floats(x), backend.floats(y)];
  backend.launch(() => {
    for (const [i, value] of values.entries())
      target[i] = -(Math.max(-value, 0) + Math.log1p(Math.exp(-Math.abs(value)))) / attrs.normalizer;
  });
  return [y];
};

export const rotary =
  (native: Native): FusedKernel<'Rotary', CpuBackend> =>
  ({ x }, attrs, backend) => {
    const [batch, time, heads, width] = x.shape as [number, number, number, number];
    const rows = attrs.positions === null ? time : batch * time;
    const y = backend.output(x.shape);
    const [values, target] = [backend.floats(x), backend.floats(y)];
    const style = [Number(attrs.style === 'interleaved'), Number(attrs.inverse)];
    backend.launch((moved) => {
      const { cos, sin } = rotaryTable({ ...attrs, start: attrs.start + moved }, rows);
      native.rotary(values, cos, sin, target, batch * time, rows, heads, width, ...style);
    });
    return [y];
  };

/** A single position by the recurrence itself, several in chunks. */
export const gatedRetention =
  (native: Native): FusedKernel<'GatedRetention', CpuBackend> =>
  (inputs, _, backend) => {
    const { q, k, v, logDecay } = inputs;
    const { batch, time, heads, groups, key, value } = sizesOf(q, v);
    const output = backend.output(v.shape);
    const state = backend.output([batch, heads, key, value]);
    const before = inputs.state ? backend.floats(inputs.state) : null;
    const after = backend.floats(state);
    const operands = [q, k, v, logDecay].map((tensor) => backend.floats(tensor));
    const target = backend.floats(output);
    backend.launch(() => {
      if (before) after.set(before);
      else after.fill(0);
      if (time === 1)
        native.retention_step(...operands, after, target, batch * heads, heads / groups, key, value);
      else native.retention(...operands, after, target, batch, time, heads, groups, key, value);
    });
    return [output, state];
  };

export const pageWrite: FusedKernel<'PageWrite', CpuBackend> = (inputs, attrs, backend) => {
  const { keyPage, valuePage, keys, values } = inputs;
  const pairs = [
    [backend.floats(keys), backend.mutableFloats(keyPage)],
    [backend.floats(values), backend.mutableFloats(valuePage)],
  ] as const;
  const sizes = { page: keyPage.shape, time: keys.shape[1] as number };
  backend.launch((moved) => {
    for (const [source, target] of pairs)
      writeRows(source, target, sizes, { ...attrs, position: attrs.position + moved });
  });
  return [];
};
