/** New keys and values into the last page of a cache, both in one launch. */
import type { Kernels, PageWriteAttributes, RotationAttributes } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { int32, int64 } from '../launch.js';
import { WRITTEN } from '../structs.js';
import { rotationArguments } from './rotary.js';

/** @param rotation of the keys, of which there are few then */
export function pageWrite(
  backend: CudaBackend,
  { keyPage, valuePage, keys, values }: Kernels['PageWrite']['inputs'],
  attrs: PageWriteAttributes,
  rotation: RotationAttributes | null,
): TensorInfo[] {
  const [batch = 1, heads = 1, pageSize = 1, width = 1] = keyPage.shape;
  const perPack = 16 / backend.elementBytes('float32');
  const isWide = width % perPack === 0;
  const plain = isWide ? width / perPack : width;
  // What a row is made of: packs of 16 bytes, elements, or the pairs that are rotated.
  const columns = rotation === null ? plain : width / 2;
  const size = batch * heads * attrs.count * columns;
  const page = [keyPage, valuePage].map((info) => backend.writable(info));
  const rows = [keys, values].map((info) => backend.pointer(info));
  const args = [
    WRITTEN.argument({ page, rows }),
    int64(size),
    ...[heads, columns, pageSize, keys.shape[1] ?? 1].map(int32),
    ...backend.moving(attrs.position, attrs.counter),
    ...[attrs.start, attrs.count].map(int32),
    ...(rotation === null ? [] : rotationArguments(backend, rotation)),
  ];
  const plainName = isWide ? 'page_write_wide' : 'page_write';
  const name = rotation === null ? plainName : 'page_write_rotated';
  // A pair a thread, of keys and of values; packs in a loop, those of keys and of values in blocks of their own.
  const grid =
    rotation === null ? ([backend.blocks(size)[0], 2] as const) : ([Math.ceil(size / THREADS)] as const);
  backend.launch({ file: 'page', name, early: true }, grid, THREADS, args);
  return [];
}
