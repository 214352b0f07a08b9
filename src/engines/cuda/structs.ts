/** Structs that kernels take by value or from tables: each described once, field by field, as its source declares it. */
import type { KernelArgument } from './launch.js';
import { TILES } from './tiles.js';

type Scalar = 'pointer' | 'int64' | 'int32' | 'float32';
/** A field of one value, or an array of so many. */
type Field = Scalar | readonly [Scalar, number];
type Fields = Readonly<Record<string, Field>>;

/** A number for each field; of an array as many as are known, the others being 0. */
type Values<F extends Fields> = {
  readonly [Name in keyof F]: F[Name] extends Scalar ? number : readonly number[];
};

const BYTES: Readonly<Record<Scalar, number>> = { pointer: 8, int64: 8, int32: 4, float32: 4 };

const WRITE: Readonly<Record<Scalar, (view: DataView, at: number, value: number) => void>> = {
  pointer: (view, at, value) => {
    view.setBigUint64(at, BigInt(value), true);
  },
  int64: (view, at, value) => {
    view.setBigInt64(at, BigInt(value), true);
  },
  int32: (view, at, value) => {
    view.setInt32(at, value, true);
  },
  float32: (view, at, value) => {
    view.setFloat32(at, value, true);
  },
};

interface Place {
  readonly name: string;
  readonly type: Scalar;
  readonly count: number;
  readonly isArray: boolean;
  readonly offset: number;
}

const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;

/** A C struct: every field at the next multiple of its own size, the whole a multiple of the largest. */
export class Struct<const F extends Fields> {
  readonly places: readonly Place[];
  readonly bytes: number;
  readonly alignment: number;

  constructor(fields: F) {
    const places: Place[] = [];
    let [end, alignment] = [0, 1];
    for (const [name, field] of Object.entries(fields)) {
      const isArray = typeof field !== 'string';
      const [type, count] = isArray ? field : [field, 1];
      const offset = roundUp(end, BYTES[type]);
      places.push({ name, type, count, isArray, offset });
      end = offset + BYTES[type] * count;
      alignment = Math.max(alignment, BYTES[type]);
    }
    this.places = places;
    this.alignment = alignment;
    this.bytes = roundUp(end, alignment);
  }

  /** An argument of a kernel. */
  argument(values: Values<F>): KernelArgument {
    return { kind: 'bytes', value: this.table([values]), alignment: this.alignment };
  }

  /** As many in a row, followed by empty ones up to `length`. */
  table(rows: readonly Values<F>[], length = rows.length): Uint8Array {
    const bytes = new Uint8Array(this.bytes * length);
    const view = new DataView(bytes.buffer);
    rows.forEach((values, row) => {
      for (const { name, type, count, offset } of this.places) {
        const value: number | readonly number[] = values[name] as number | readonly number[];
        const items = typeof value === 'number' ? [value] : value;
        if (items.length > count) throw new Error(`${name} has ${count} values, not ${items.length}`);
        items.forEach((item, i) => {
          WRITE[type](view, row * this.bytes + offset + i * BYTES[type], item);
        });
      }
    });
    return bytes;
  }
}

const { RANK } = TILES.layout;
const { GEMV_WEIGHTS } = TILES.gemv;

/** Rows [batch, position, head] of attention.cu: one array, or pages of `pageSize` positions; strides in elements. */
export const SOURCE = new Struct({
  base: 'pointer',
  pages: 'pointer',
  batch: 'int64',
  position: 'int64',
  head: 'int64',
  pageSize: 'int64',
});

/** `Shape` of attention.cu; `window` 0: none; `positions` 0: they follow each other from `offset` on. */
export const ATTENTION_SHAPE = new Struct({
  tq: 'int32',
  tk: 'int32',
  heads: 'int32',
  kvHeads: 'int32',
  width: 'int32',
  window: 'int32',
  scale: 'float32',
  offset: 'int32',
  positions: 'pointer',
});

/** `Cache` of attention_decode.cu: tables of pages, strides in elements. */
export const CACHE = new Struct({
  keys: 'pointer',
  values: 'pointer',
  batch: 'int64',
  position: 'int64',
  head: 'int64',
  pageSize: 'int64',
});

/** `Problem` of attention_hopper.cu. */
export const HOPPER_PROBLEM = new Struct({
  tq: 'int32',
  tk: 'int32',
  heads: 'int32',
  kvHeads: 'int32',
  window: 'int32',
  offset: 'int32',
  pageSize: 'int32',
  batch: 'int32',
  paired: 'int32',
  factor: 'float32',
});

/** `Problem` of attention_hopper_grad.cu. */
export const HOPPER_GRAD_PROBLEM = new Struct({
  tq: 'int32',
  tk: 'int32',
  heads: 'int32',
  kvHeads: 'int32',
  window: 'int32',
  batch: 'int32',
  paired: 'int32',
  scale: 'float32',
});

/** `Broadcast` of elementwise.cu. */
export const BROADCAST = new Struct({ shape: ['int64', RANK], a: ['int64', RANK], b: ['int64', RANK] });

/** `Walk` of layout.cu. */
export const WALK = new Struct({
  shape: ['int64', RANK],
  source: ['int64', RANK],
  destination: ['int64', RANK],
});

/** `Group` of gemv.cu. */
export const GROUP = new Struct({
  weights: ['pointer', GEMV_WEIGHTS],
  outs: ['pointer', GEMV_WEIGHTS],
  widths: ['int64', GEMV_WEIGHTS],
});

/** `Group` of gemv_float8.cu. */
export const FLOAT8_GROUP = new Struct({
  codes: ['pointer', GEMV_WEIGHTS],
  factors: ['pointer', GEMV_WEIGHTS],
  outs: ['pointer', GEMV_WEIGHTS],
  widths: ['int32', GEMV_WEIGHTS],
});

/** `Stage` of gemv_chain.cu. */
export const STAGE = new Struct({
  x: 'pointer',
  scale: 'pointer',
  gate: 'pointer',
  normed: 'pointer',
  residual: 'pointer',
  weights: ['pointer', GEMV_WEIGHTS],
  outs: ['pointer', GEMV_WEIGHTS],
  widths: ['int32', GEMV_WEIGHTS],
  inner: 'int32',
  members: 'int32',
  swiglu: 'int32',
  packs: 'int32',
  lanes: 'int32',
  eps: 'float32',
});

/** `Tensor` of optimizer.cu. */
export const TENSOR = new Struct({
  parameter: 'pointer',
  stored: 'pointer',
  gradient: 'pointer',
  first: 'pointer',
  second: 'pointer',
  size: 'int64',
  piece: 'int32',
  isWide: 'int32',
  decay: 'float32',
  unused: 'int32',
});

/** `Rule` of optimizer.cu. */
export const RULE = new Struct({
  beta1: 'float32',
  beta2: 'float32',
  epsilon: 'float32',
  rate: 'float32',
  correction: 'float32',
  decayedRate: 'float32',
});

/** `CodePage` of codes.cuh. */
export const CODE_PAGE = new Struct({
  keyCodes: 'pointer',
  valueCodes: 'pointer',
  keyScales: 'pointer',
  valueScales: 'pointer',
});

/** `Problem` of attention_coded.cu. */
export const CODED_PROBLEM = new Struct({
  tq: 'int32',
  heads: 'int32',
  kvHeads: 'int32',
  pageSize: 'int32',
  scale: 'float32',
});

/** `Raw` of attention_coded.cu. */
export const RAW = new Struct({ keys: 'pointer', values: 'pointer', rows: 'int32', start: 'int32' });

/** `Written` of page.cu: keys and values. */
export const WRITTEN = new Struct({ page: ['pointer', 2], rows: ['pointer', 2] });

/** `Grid` of linear_swiglu_hopper.cu. */
export const LINEAR_SWIGLU_GRID = new Struct({ rows: 'int32', columns: 'int32', slices: 'int32' });

/** `Shape` of retention.cuh. */
export const RETENTION_SHAPE = new Struct({
  time: 'int32',
  heads: 'int32',
  keyWidth: 'int32',
  valueWidth: 'int32',
  chunks: 'int32',
  keyPitch: 'int32',
  valuePitch: 'int32',
  group: 'int32',
  scale: 'float32',
});

/** `Walk` of retention_hopper_states.cu. */
export const RETENTION_WALK = new Struct({
  groups: 'int32',
  stages: 'int32',
  units: 'int32',
  backward: 'int32',
});

/** `Shape` of retention_step.cu. */
export const RETENTION_STEP_SHAPE = new Struct({
  time: 'int32',
  heads: 'int32',
  keyWidth: 'int32',
  valueWidth: 'int32',
  group: 'int32',
  scale: 'float32',
  inverse: 'float32',
});

/** `Shape` of delta.cu. */
export const DELTA_SHAPE = new Struct({
  time: 'int32',
  heads: 'int32',
  keyWidth: 'int32',
  valueWidth: 'int32',
  queryScale: 'float32',
  keyScale: 'float32',
});

/** `Shape` of short_convolution.cu. */
export const CONVOLUTION_SHAPE = new Struct({
  batch: 'int32',
  time: 'int32',
  width: 'int32',
  taps: 'int32',
  silu: 'int32',
});

/** `Sorted` of embedding_grad.cu: tokens in the order of their ids. */
export const SORTED = new Struct({
  ids: 'pointer',
  counts: 'pointer',
  used: 'pointer',
  starts: 'pointer',
  ordinals: 'pointer',
  order: 'pointer',
  owners: 'pointer',
  tokens: 'int32',
  vocabulary: 'int32',
});

/** `Turned` of rotary.cu: one or two tensors. */
export const TURNED = new Struct({ x: ['pointer', 2], y: ['pointer', 2], heads: ['int64', 2] });
