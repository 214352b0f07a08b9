/** Rows in float8 on the device: e4m3 row by row, then a float32 factor for each row (`ops/linear/float8.ts`). */
import type { StorageType } from '../engine.js';
import type { Block } from './allocator.js';
import type { CudaBackend } from './backend.js';
import { int32, int64, pointer } from './launch.js';
import { rowLaunch } from './row-launch.js';

const file = 'float8';
/** Of the factors' address. */
const ALIGNMENT = 256;
const THREADS = 256;

/** Device addresses of rows in float8. */
export interface Float8Addresses {
  readonly codes: number;
  readonly factors: number;
}

/** Memory for rows of `width` elements. */
export class Float8Rows implements Float8Addresses {
  readonly block: Block;

  constructor(
    private readonly backend: CudaBackend,
    private readonly size: number,
    readonly width: number,
  ) {
    this.block = backend.device.allocator.allocate(this.codeBytes + this.rows * 4);
  }

  get codes(): number {
    return this.block.pointer;
  }

  get factors(): number {
    return this.block.pointer + this.codeBytes;
  }

  /** Rounds what is at an address in the backend's storage. */
  round(from: number): void {
    this.launch('round_rows', from, from);
  }

  /** Rounds silu(a) * b, of which each is at an address in the backend's storage. */
  roundGated(a: number, b: number): void {
    this.launch('swiglu_rows', a, b);
  }

  /** Writes the values to an address. */
  widen(to: number, storage: StorageType): void {
    const { backend, size, width } = this;
    const args = [...[this.codes, this.factors, to].map(pointer), int64(size), int32(width)];
    backend.launch(
      { file, name: 'float8_values', storage, early: true },
      backend.blocks(size),
      THREADS,
      args,
    );
  }

  release(): void {
    this.backend.device.allocator.release(this.block);
  }

  private get rows(): number {
    return this.size / Math.max(1, this.width);
  }

  private get codeBytes(): number {
    return Math.ceil(this.size / ALIGNMENT) * ALIGNMENT;
  }

  private launch(kernel: string, a: number, b: number): void {
    const { backend, rows, width } = this;
    const { variant, blocks, threads, extent, lanes } = rowLaunch(
      rows,
      width,
      16 / backend.elementBytes('float32'),
    );
    const args = [...[a, b, this.codes, this.factors].map(pointer), int64(rows), int32(extent), int32(lanes)];
    backend.launch({ file, name: `${kernel}${variant}`, early: true }, [blocks], threads, args);
  }
}
