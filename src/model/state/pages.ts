/** Keys and values of all positions, in pages: as the engine stores tensors, or compressed. */
import {
  CompressedPages,
  compressedAttention,
  KeyValuePages,
  pagedAttention,
  partialAttention,
  type Page,
  type PartialAttention,
} from '../../ops/index.js';
import * as tf from '../../tf.js';
import { rotationAt, type Rotation, type Rows } from '../layers/heads.js';
import type { KeyValueMemory, MemoryOptions } from './memory.js';

export interface HeadShape {
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Keys and values of a whole context: pages of the engine's own storage, or compressed ones. */
export function keyValueMemory({ type = null, ...options }: MemoryOptions & HeadShape): StoredMemory {
  return type === null
    ? PagedMemory.create(options)
    : new CompressedMemory(new CompressedPages(type, options));
}

/** What both kinds have in common; `Store` appends, forks and forgets. */
export abstract class StoredMemory<
  Store extends KeyValuePages | CompressedPages = KeyValuePages | CompressedPages,
> implements KeyValueMemory {
  readonly grows = true;

  constructor(protected readonly store: Store) {}

  abstract attend(q: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D;
  abstract fork(): StoredMemory;
  abstract mark(): void;
  abstract canRewind(length: number): boolean;
  abstract settle(): void;
  abstract written(): readonly tf.Tensor[];

  get pageSize(): number {
    return this.store.pageSize;
  }

  get bytes(): number {
    return this.store.bytes;
  }

  append(k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): void {
    this.store.append(k, v, rotation && rotationAt(rows, rotation));
  }

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    this.append(k, v, rows, rotation);
    const attended = this.attend(q, rows, rotation);
    this.settle();
    return attended;
  }

  /** Appends `count` positions of the rows in `block`, [B, T, Hkv, D], over and over: contents for measurements. */
  fill(block: tf.Tensor4D, count: number): void {
    const part = tf.slice(block, [0, 0, 0, 0], [-1, count, -1, -1]);
    this.store.append(part, part);
    this.settle();
    part.dispose();
  }

  get headShape(): HeadShape {
    return this.store.options;
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

export class PagedMemory extends StoredMemory<KeyValuePages> {
  static create(options: MemoryOptions & HeadShape): PagedMemory {
    return new PagedMemory(new KeyValuePages(options));
  }

  /** The pages themselves, for tests and benchmarks. */
  get pages(): readonly Page[] {
    return this.store.pages;
  }

  attend(q: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    return pagedAttention(q, this.store, { rotation: rotation && rotationAt(rows, rotation) });
  }

  /** Attends to the first `seen` of its positions, or causally, with rotated queries, and leaves it to be merged. */
  attendPartly(q: tf.Tensor4D, seen: number | 'causal'): PartialAttention {
    return partialAttention(q, this.store, seen);
  }

  /** Positions it holds. */
  get length(): number {
    return this.store.length;
  }

  /** As of `KeyValuePages`. */
  hasRoomAfter(length: number): boolean {
    return this.store.hasRoomAfter(length);
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

  settle(): void {
    // Pages hold everything as it is.
  }

  written(): readonly tf.Tensor[] {
    const last = this.store.pages.at(-1);
    return last === undefined ? [] : [last.key, last.value];
  }
}

class CompressedMemory extends StoredMemory<CompressedPages> {
  attend(q: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    return compressedAttention(q, this.store, { rotation: rotation && rotationAt(rows, rotation) });
  }

  fork(): CompressedMemory {
    return new CompressedMemory(this.store.fork());
  }

  mark(): void {
    this.store.mark();
  }

  canRewind(length: number): boolean {
    return this.store.canRewind(length);
  }

  settle(): void {
    this.store.settle();
  }

  written(): readonly tf.Tensor[] {
    return this.store.written;
  }
}
