/** Rotary position embedding, and the frequencies of kernels that rotate what they read. */
import type { RotaryAttributes, RotationAttributes } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { TURNED } from '../structs.js';
import { type KernelArgument, float32, int32, pointer } from '../launch.js';

/** Elements of 16 bytes at two bytes each: what one thread handles at a time. */
const WIDE = 8;

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
  const table = tableAddress(backend, attrs.frequencies);
  const launch = (positions: number): void => {
    const args = [
      TURNED.argument({ x: from, y: to, heads }),
      pointer(table),
      pointer(positions),
      ...backend.moving(attrs.start),
      ...[time, width].map(int32),
      float32(attrs.inverse ? -1 : 1),
    ];
    // Up to three packs a thread, so that several loads are in flight while the phases are computed.
    const packs = (Math.max(...heads) * width) / WIDE;
    const threads = Math.min(THREADS, Math.max(32, Math.ceil(packs / 3 / 32) * 32));
    backend.launch(
      { file: 'rotary', name: `rotary_${attrs.style}`, early: true },
      [batch * time, xs.length],
      threads,
      args,
      width * 4,
    );
  };
  const { positions } = attrs;
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
