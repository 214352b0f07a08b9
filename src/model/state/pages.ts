/** Keys and values of all positions, in pages. */
import { KeyValuePages, pagedAttention, type Page } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { rotationAt, type Rotation, type Rows } from '../layers/heads.js';
import type { KeyValueMemory, MemoryOptions } from './memory.js';

export interface HeadShape {
  readonly kvHeads: number;
  readonly headDim: number;
}

export class PagedMemory implements KeyValueMemory {
  readonly grows = true;

  private constructor(private readonly store: KeyValuePages) {}

  static create(options: MemoryOptions & HeadShape): PagedMemory {
    return new PagedMemory(new KeyValuePages(options));
  }

  /** The pages themselves, for tests and benchmarks. */
  get pages(): readonly Page[] {
    return this.store.pages;
  }

  get pageSize(): number {
    return this.store.pageSize;
  }

  get bytes(): number {
    return this.store.bytes;
  }

  append(k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): void {
    this.store.append(k, v, rotation && rotationAt(rows, rotation));
  }

  attend(q: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    return pagedAttention(q, this.store, { rotation: rotation && rotationAt(rows, rotation) });
  }

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    this.append(k, v, rows, rotation);
    return this.attend(q, rows, rotation);
  }

  /** Appends `count` positions of the rows in `block`, [B, T, Hkv, D], over and over: contents for measurements. */
  fill(block: tf.Tensor4D, count: number): void {
    const part = tf.slice(block, [0, 0, 0, 0], [-1, count, -1, -1]);
    this.store.append(part, part);
    part.dispose();
  }

  get headShape(): HeadShape {
    return this.store.options;
  }

  fork(): PagedMemory {
    return new PagedMemory(this.store.fork());
  }

  mark(): void {
    // Pages keep everything.
  }

  canRewind(length: number): boolean {
    return length <= this.store.length;
  }

  rewind(length: number): void {
    this.store.rewind(length);
  }

  dispose(): void {
    this.store.dispose();
  }

  get isWritable(): boolean {
    return this.store.hasRoom;
  }

  written(): readonly tf.Tensor[] {
    const last = this.store.pages.at(-1);
    return last === undefined ? [] : [last.key, last.value];
  }

  carried(): readonly tf.Tensor4D[] {
    return [];
  }

  restore(): void {
    // Its pages are written in place.
  }

  shape(): string {
    return String(this.store.pages.length);
  }

  resume(length: number): void {
    this.store.resume(length);
  }
}
