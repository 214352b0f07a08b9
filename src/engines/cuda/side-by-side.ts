/** Tensors that lie one behind the other, so that one product takes them all. */
import { type Block, blockSize } from './allocator.js';
import type { CudaBackend } from './backend.js';
import type { StoredTensor } from './stored-tensor.js';

/** Bytes from one tensor to the next, which is a multiple of what products want addresses to be multiples of. */
export function sideBySideBytes(size: number, backend: CudaBackend): number {
  return blockSize(size * backend.elementBytes('float32'));
}

/**
 * Has tensors of one size lie so in the backend's storage, in their order: moves those that do not. Each is moved once at most,
 * and none that a recording knows.
 * @returns whether they do
 */
export function laySideBySide(tensors: readonly StoredTensor[], backend: CudaBackend): boolean {
  const { storage, device } = backend;
  const size = tensors[0]?.size ?? 0;
  const [address = 0, ...rest] = tensors.map((tensor) => tensor.pointer(storage));
  const apart = sideBySideBytes(size, backend);
  if (rest.every((other, i) => other === address + (i + 1) * apart)) return true;
  if (new Set(tensors).size < tensors.length || !tensors.every(({ isMovable }) => isMovable)) return false;
  const blocks = device.allocator.allocateRow(size * backend.elementBytes('float32'), tensors.length);
  tensors.forEach((tensor, i) => {
    tensor.move(blocks[i] as Block);
  });
  return true;
}
