import koffi from 'koffi';
import type { StorageType } from '../engine.js';
import type { CudaBackend } from './backend.js';
import type { Driver } from './driver.js';

/** Bytes of a CUtensorMap: what the tensor copy engine needs to know about a tensor. */
export const TENSOR_MAP_BYTES = 128;

/** Rows of `width` 16-bit elements at [batch, head, position], strides in elements. */
export interface RowSource {
  address: number;
  width: number;
  positions: number;
  heads: number;
  batch: number;
  positionStride: number;
  headStride: number;
  batchStride: number;
}

/** All of a tensor of [B,T,H,width], without gaps. */
export function denseRows(address: number, shape: readonly number[]): RowSource {
  const [batch = 1, positions = 1, heads = 1, width = 1] = shape;
  const [positionStride, headStride, batchStride] = [heads * width, width, positions * heads * width];
  return { address, width, positions, heads, batch, positionStride, headStride, batchStride };
}

/** Boxes of 64 columns (the 128 bytes of the swizzle) by this many positions. */
export const BOX_POSITIONS = 128;
const DATA_TYPE: Readonly<Record<StorageType, number>> = { float32: 7, float16: 6, bfloat16: 9 };
const SWIZZLE_128 = 3;
const PROMOTE_256 = 3;
const MOST_CACHED = 4096;

/** Makes tensor maps, and remembers them: K/V pages come again with every layer and step. */
export class TensorMaps {
  private static readonly ofBackends = new WeakMap<CudaBackend, TensorMaps>();
  private readonly known = new Map<string, Uint8Array>();
  private readonly place = alignedBytes(TENSOR_MAP_BYTES, 64);
  private readonly lengths = new BigUint64Array(4);
  private readonly strides = new BigUint64Array(3);
  private readonly box = new Uint32Array([64, BOX_POSITIONS, 1, 1]);
  private readonly steps = new Uint32Array([1, 1, 1, 1]);

  /** The backend's own. */
  static of(backend: CudaBackend): TensorMaps {
    const maps = this.ofBackends.get(backend) ?? new TensorMaps(backend.device.driver, backend.storage);
    this.ofBackends.set(backend, maps);
    return maps;
  }

  private constructor(
    private readonly driver: Driver,
    private readonly storage: StorageType,
  ) {}

  /** The map of `source` with dimensions (width, positions, heads, batch), read in boxes of `boxPositions`. */
  encode(source: RowSource, boxPositions = BOX_POSITIONS): Uint8Array {
    const key = `${Object.values(source).join(' ')} ${boxPositions}`;
    let map = this.known.get(key);
    if (map !== undefined) return map;
    if (this.known.size >= MOST_CACHED) this.known.clear();
    const { address, width, positions, heads, batch } = source;
    this.lengths.set([width, positions, heads, batch].map(BigInt));
    this.strides.set(
      [source.positionStride, source.headStride, source.batchStride].map((stride) => BigInt(stride * 2)),
    );
    this.box[1] = boxPositions;
    const type = DATA_TYPE[this.storage];
    this.driver.encodeTensorMap(
      this.place, type, 4, address, this.lengths, this.strides, this.box, this.steps, 0, SWIZZLE_128, PROMOTE_256, 0,
    ); // prettier-ignore
    map = this.place.slice();
    this.known.set(key, map);
    return map;
  }
}

/** Host memory whose address is a multiple of `alignment`. */
function alignedBytes(bytes: number, alignment: number): Uint8Array {
  const whole = new Uint8Array(bytes + alignment);
  const offset = Number((BigInt(alignment) - (koffi.address(whole) % BigInt(alignment))) % BigInt(alignment));
  return whole.subarray(offset, offset + bytes);
}
