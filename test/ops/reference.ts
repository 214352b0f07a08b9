/**
 * The ops as plain float64 loops, straight from their definitions: what the tests hold values and, by finite
 * differences, gradients to. Slow on purpose.
 */
export interface Array64 {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export const size = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

export function zeros(shape: readonly number[]): Array64 {
  return { shape, data: new Float64Array(size(shape)) };
}

/** Element access by indices; the checks of bounds are what a test wants. */
export function at(x: Array64, ...indices: number[]): number {
  return x.data[offset(x, indices)] as number;
}

function offset({ shape }: Array64, indices: readonly number[]): number {
  let position = 0;
  for (let axis = 0; axis < indices.length; axis++) {
    const [index, extent] = [indices[axis] as number, shape[axis] as number];
    if (!(index >= 0 && index < extent)) throw new RangeError(`index ${index} of axis ${axis} (${extent})`);
    position = position * extent + index;
  }
  return position;
}

/** What lies below the given indices of the first axes, in place: its bounds are checked once and not for every element. */
function block(x: Array64, ...indices: number[]): Float64Array {
  const length = size(x.shape.slice(indices.length));
  const start = offset(x, indices) * length;
  return x.data.subarray(start, start + length);
}

const dot = (a: Float64Array, b: Float64Array): number =>
  sumOver(a.length, (i) => (a[i] as number) * (b[i] as number));

/** An array whose elements are computed from their indices. */
export function build(shape: readonly number[], value: (...indices: number[]) => number): Array64 {
  const result = zeros(shape);
  const indices = shape.map(() => 0);
  for (let i = 0; i < result.data.length; i++) {
    result.data[i] = value(...indices);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      indices[axis] = (indices[axis] as number) + 1;
      if ((indices[axis] as number) < (shape[axis] as number)) break;
      indices[axis] = 0;
    }
  }
  return result;
}

function sumOver(count: number, term: (i: number) => number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += term(i);
  return sum;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

export function rmsNorm(x: Array64, weight: Array64 | null, eps: number): Array64 {
  const width = x.shape[x.shape.length - 1] as number;
  const result = zeros(x.shape);
  for (let row = 0; row < x.data.length; row += width) {
    const values = x.data.subarray(row, row + width);
    const meanSquare = values.reduce((sum, value) => sum + value * value, 0) / width;
    for (let i = 0; i < width; i++) {
      result.data[row + i] =
        ((values[i] as number) / Math.sqrt(meanSquare + eps)) * (weight ? at(weight, i) : 1);
    }
  }
  return result;
}

/** Every row divided by the root of its sum of squares and eps. */
export function l2Norm(x: Array64, eps: number): Array64 {
  const width = x.shape[x.shape.length - 1] as number;
  const { data } = rmsNorm(x, null, eps / width);
  return { shape: x.shape, data: data.map((value) => value * width ** -0.5) };
}

export function rotary(
  x: Array64,
  position: (batch: number, time: number) => number,
  frequencies: Float64Array,
  style: 'interleaved' | 'half',
): Array64 {
  const pairs = frequencies.length;
  return build(x.shape, (b = 0, t = 0, h = 0, d = 0) => {
    const first = style === 'interleaved' ? d % 2 === 0 : d < pairs;
    const pair = style === 'interleaved' ? Math.floor(d / 2) : d % pairs;
    const step = style === 'interleaved' ? 1 : pairs;
    const phase = position(b, t) * (frequencies[pair] as number);
    const other = at(x, b, t, h, first ? d + step : d - step);
    return at(x, b, t, h, d) * Math.cos(phase) + (first ? -other : other) * Math.sin(phase);
  });
}

export function swiglu(a: Array64, b: Array64): Array64 {
  return {
    shape: a.shape,
    data: a.data.map((value, i) => value * sigmoid(value) * (b.data[i] as number)),
  };
}

/** x [..., in], weight [out, in]. */
export function linear(x: Array64, weight: Array64, residual?: Array64): Array64 {
  const [outWidth, inWidth] = weight.shape as [number, number];
  const rows = x.data.length / inWidth;
  const y = zeros([...x.shape.slice(0, -1), outWidth]);
  for (let row = 0; row < rows; row++) {
    for (let o = 0; o < outWidth; o++) {
      let sum = residual ? (residual.data[row * outWidth + o] as number) : 0;
      for (let i = 0; i < inWidth; i++) {
        sum += (x.data[row * inWidth + i] as number) * (weight.data[o * inWidth + i] as number);
      }
      y.data[row * outWidth + o] = sum;
    }
  }
  return y;
}

export function embedding(weight: Array64, ids: ArrayLike<number>, scale: number): Array64 {
  const width = weight.shape[1] as number;
  return build([ids.length, width], (row = 0, d = 0) => scale * at(weight, ids[row] as number, d));
}

/** q [B,Tq,Hq,D], k and v [B,Tk,Hkv,D]. */
export function attention(
  q: Array64,
  k: Array64,
  v: Array64,
  options: { window?: number; scale?: number; position?: (batch: number, query: number) => number } = {},
): Array64 {
  const [batch, queries, heads, width] = q.shape as [number, number, number, number];
  const [, keys, kvHeads] = k.shape as [number, number, number, number];
  const { window = Infinity, scale = width ** -0.5 } = options;
  const position = options.position ?? ((_, t) => keys - queries + t);
  const result = zeros(q.shape);
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < queries; t++) {
      for (let h = 0; h < heads; h++) {
        const kv = Math.floor(h / (heads / kvHeads));
        const own = position(b, t);
        const seen = Array.from({ length: own + 1 }, (_, j) => j).filter((j) => j > own - window);
        const query = block(q, b, t, h);
        const scores = seen.map((j) => scale * dot(query, block(k, b, j, kv)));
        const peak = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - peak));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        const out = block(result, b, t, h);
        for (const [i, j] of seen.entries()) {
          const [weight, value] = [weights[i] as number, block(v, b, j, kv)];
          for (let d = 0; d < width; d++) out[d] = (out[d] as number) + weight * (value[d] as number);
        }
        for (let d = 0; d < width; d++) out[d] = (out[d] as number) / total;
      }
    }
  }
  return result;
}

export function logDecay(x: Array64, normalizer: number): Array64 {
  return { shape: x.shape, data: x.data.map((value) => Math.log(sigmoid(value)) / normalizer) };
}

/** x [B,T,D], weight [D,1,K], bias [D], state [B,K-1,D]: the outputs and the last K - 1 inputs. */
export function shortConvolution(
  x: Array64,
  weight: Array64,
  { bias, state, silu }: { bias?: Array64; state?: Array64; silu: boolean },
): { output: Array64; state: Array64 } {
  const [batch, time, width] = x.shape as [number, number, number];
  const taps = weight.shape[2] as number;
  const input = (b: number, t: number, d: number): number => {
    if (t >= 0) return at(x, b, t, d);
    return state ? at(state, b, t + taps - 1, d) : 0;
  };
  const output = build(x.shape, (b = 0, t = 0, d = 0) => {
    const z =
      (bias ? at(bias, d) : 0) + sumOver(taps, (j) => at(weight, d, 0, j) * input(b, t - taps + 1 + j, d));
    return silu ? z * sigmoid(z) : z;
  });
  return {
    output,
    state: build([batch, taps - 1, width], (b = 0, i = 0, d = 0) => input(b, time - taps + 1 + i, d)),
  };
}

/** The recurrence: q, k [B,T,G,Dk], v [B,T,H,Dv], decay (logarithms) [B,T,H], state [B,H,Dk,Dv]. */
export function retention(
  q: Array64,
  k: Array64,
  v: Array64,
  decay: Array64,
  initial?: Array64,
): { output: Array64; state: Array64 } {
  const [batch, time, groups, keyWidth] = q.shape as [number, number, number, number];
  const [, , heads, valueWidth] = v.shape as [number, number, number, number];
  const state = initial
    ? { shape: initial.shape, data: initial.data.slice() }
    : zeros([batch, heads, keyWidth, valueWidth]);
  const output = zeros([batch, time, heads, valueWidth]);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const group = Math.floor(h / (heads / groups));
      for (let t = 0; t < time; t++) {
        const fade = Math.exp(at(decay, b, t, h));
        const [query, key] = [block(q, b, t, group), block(k, b, t, group)];
        const [value, out] = [block(v, b, t, h), block(output, b, t, h)];
        for (let i = 0; i < keyWidth; i++) {
          const row = block(state, b, h, i);
          for (let j = 0; j < valueWidth; j++) {
            const update = keyWidth ** -0.5 * (key[i] as number) * (value[j] as number);
            const next = fade * (row[j] as number) + update;
            row[j] = next;
            out[j] = (out[j] as number) + (query[i] as number) * next;
          }
        }
      }
    }
  }
  return { output, state };
}

/** Mamba-2's recurrence: x [B,T,H,P], dt [B,T,H], b, c [B,T,G,N], vectors [H], state [B,H,N,P]. */
export function stateSpace(
  [x, dt, b, c]: readonly [Array64, Array64, Array64, Array64],
  [bias, aLog, skip]: readonly [Array64, Array64, Array64],
  initial?: Array64,
): { output: Array64; state: Array64 } {
  const [, , , states] = b.shape as [number, number, number, number];
  const step = build(dt.shape, (n = 0, t = 0, h = 0) => softplus(at(dt, n, t, h) + at(bias, h)));
  const decay = build(dt.shape, (n = 0, t = 0, h = 0) => -Math.exp(at(aLog, h)) * at(step, n, t, h));
  // Retention scales its keys by the root of their width.
  const values = build(
    x.shape,
    (n = 0, t = 0, h = 0, p = 0) => states ** 0.5 * at(step, n, t, h) * at(x, n, t, h, p),
  );
  const retained = retention(c, b, values, decay, initial);
  const output = build(
    x.shape,
    (n = 0, t = 0, h = 0, p = 0) => at(retained.output, n, t, h, p) + at(skip, h) * at(x, n, t, h, p),
  );
  return { output, state: retained.state };
}

const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
/** The gated delta rule: q, k [B,T,H,Dk], v [B,T,H,Dv], decay (logarithms) and beta [B,T,H], state [B,H,Dk,Dv]. */
export function deltaRule(
  [q, k, v, decay, beta, initial]: readonly [Array64, Array64, Array64, Array64, Array64, Array64?],
  { queryScale, keyScale }: { queryScale: number; keyScale: number },
): { output: Array64; state: Array64 } {
  const [batch, time, heads, keyWidth] = q.shape as [number, number, number, number];
  const valueWidth = v.shape[3] as number;
  const state = initial
    ? { shape: initial.shape, data: initial.data.slice() }
    : zeros([batch, heads, keyWidth, valueWidth]);
  const output = zeros([batch, time, heads, valueWidth]);
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < time; t++) {
        const fade = Math.exp(at(decay, b, t, h));
        const query = block(q, b, t, h);
        const key = block(k, b, t, h).map((x) => keyScale * x);
        const [value, out] = [block(v, b, t, h), block(output, b, t, h)];
        const memory = block(state, b, h);
        for (let j = 0; j < valueWidth; j++) {
          const known = sumOver(
            keyWidth,
            (i) => (key[i] as number) * fade * (memory[i * valueWidth + j] as number),
          );
          const change = at(beta, b, t, h) * ((value[j] as number) - known);
          for (let i = 0; i < keyWidth; i++) {
            const next = fade * (memory[i * valueWidth + j] as number) + (key[i] as number) * change;
            memory[i * valueWidth + j] = next;
            out[j] = (out[j] as number) + queryScale * (query[i] as number) * next;
          }
        }
      }
  return { output, state };
}

/** a, b [B,T,H], aLog, dtBias [H]. */
export function deltaGates(a: Array64, b: Array64, aLog: Array64, dtBias: Array64): Array64[] {
  const heads = aLog.data.length;
  const logDecay = a.data.map((x, i) => -Math.exp(at(aLog, i % heads)) * softplus(x + at(dtBias, i % heads)));
  return [
    { shape: a.shape, data: logDecay },
    { shape: b.shape, data: b.data.map(sigmoid) },
  ];
}

/** logits [N,V]. */
export function crossEntropy(logits: Array64, targets: ArrayLike<number>): Array64 {
  const [rows, width] = logits.shape as [number, number];
  return build([rows], (row = 0) => {
    const values = logits.data.subarray(row * width, (row + 1) * width);
    const peak = Math.max(...values);
    const total = values.reduce((sum, value) => sum + Math.exp(value - peak), 0);
    return peak + Math.log(total) - (values[targets[row] as number] as number);
  });
}
