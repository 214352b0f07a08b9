/** Rotary position embedding, and the frequencies of kernels that rotate what they read. */
import type { RotaryAttributes, RotaryStyle, RotationAttributes } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { TURNED } from '../structs.js';
import type { Grid } from '../device.js';
import { type KernelArgument, float32, int32, int64, pointer } from '../launch.js';

/** Device copies of frequency tables, which models keep for as long as they live. */
const tables = new WeakMap<CudaBackend, WeakMap<Float64Array, number>>();

function tableAddress(backend: CudaBackend, values: Float64Array): number {
  const known = tables.get(backend) ?? new WeakMap<Float64Array, number>();
  tables.set(backend, known);
  let address = known.get(values);
  if (address === undefined) {
    address = backend.device.allocator.allocate(values.byteLength).pointer;
    backend.device.driver.upload(address, values);
    known.set(values, address);
  }
  return address;
}

/** Packs that one thread turns by the same phases at most, and threads of a multiprocessor that there should be for it. */
const MOST_PACKS = 8;
const ENOUGH = 1024;
/** Packs of a head whose halves are parts of lines of 128 bytes: `rotary_half_narrow` turns its heads two by two. */
const NARROW_PACKS: ReadonlySet<number> = new Set([2, 4, 8]);

interface RotaryLaunch {
  name: string;
  grid: Grid;
  /** Heads of a thread, counted over the sequences. */
  each: number;
}

/** How `rows` positions of `heads`, counted over the sequences, of each tensor are laid over threads. */
export function rotaryLaunch(
  style: RotaryStyle,
  { rows, heads, width, tensors }: Readonly<Record<'rows' | 'heads' | 'width' | 'tensors', number>>,
  { perPack, multiprocessors }: { perPack: number; multiprocessors: number },
): RotaryLaunch {
  const pairs = width / 2;
  const wide = style === 'half' ? perPack : perPack / 2;
  const isWide = pairs % wide === 0;
  const isNarrow = style === 'half' && NARROW_PACKS.has(width / perPack);
  const threads = rows * (isNarrow ? width / perPack : isWide ? pairs / wide : pairs);
  const fair = Math.ceil((threads * heads * tensors) / (multiprocessors * ENOUGH));
  const fairest = Math.max(1, Math.min(heads, MOST_PACKS, fair));
  const each = isNarrow ? Math.ceil(fairest / 2) * 2 : fairest;
  return {
    name: `rotary_${style}${isNarrow ? '_narrow' : isWide ? '' : '_any'}`,
    grid: [Math.ceil(threads / THREADS), Math.ceil(heads / each), tensors],
    each,
  };
}

/** Rotates one tensor, or two at the same positions in one launch. */
export function rotary(
  backend: CudaBackend,
  xs: readonly TensorInfo[],
  attrs: RotaryAttributes,
): TensorInfo[] {
  const [batch = 1, time = 1, , width = 2] = xs[0]?.shape ?? [];
  const outs = xs.map(({ shape }) => backend.output(shape));
  const heads = xs.map(({ shape }) => shape[2] ?? 1);
  const [from, to] = [xs, outs].map((infos) => infos.map((info) => backend.pointer(info))) as [
    number[],
    number[],
  ];
  const { positions, style } = attrs;
  const [rows, sequences] = positions === null ? [time, batch] : [batch * time, 1];
  const plan = rotaryLaunch(
    style,
    { rows, heads: sequences * Math.max(...heads), width, tensors: xs.length },
    {
      perPack: 16 / backend.elementBytes('float32'),
      multiprocessors: backend.device.driver.multiprocessors,
    },
  );
  const table = tableAddress(backend, attrs.frequencies);
  const launch = (positions: number): void => {
    const args = [
      TURNED.argument({ x: from, y: to, heads }),
      pointer(table),
      pointer(positions),
      ...backend.moving(attrs.start),
      int64(rows),
      ...[sequences, width, plan.each].map(int32),
      float32(attrs.inverse ? -1 : 1),
    ];
    backend.launch({ file: 'rotary', name: plan.name, early: true }, plan.grid, THREADS, args);
  };
  if (positions === null) launch(0);
  else {
    backend.uploaded(positions, launch);
  }
  return outs;
}

/** For kernels that rotate what they read: frequencies (null: nothing is rotated), moving start, whether in halves. */
export function rotationArguments(
  backend: CudaBackend,
  rotation: RotationAttributes | null,
): KernelArgument[] {
  if (rotation === null) return [pointer(0), pointer(0), int32(0), int32(0)];
  const { frequencies, start, style } = rotation;
  return [
    pointer(tableAddress(backend, frequencies)),
    ...backend.moving(start),
    int32(style === 'half' ? 1 : 0),
  ];
}
