/** The kernels' sources, and what they are compiled with. */
import { readFileSync } from 'node:fs';
import type { StorageType } from '../engine.js';
import { TILES, shortStep } from './tiles.js';

/** The sources stay where they are written: the same relative path from `src/` and from `dist/`. */
const SOURCES = new URL('../../../src/engines/cuda/sources/', import.meta.url);

/** `STORAGE` as the sources know it. */
const STORAGE_CODE: Readonly<Record<StorageType, number>> = { float32: 0, bfloat16: 1, float16: 2 };

/** Bytes of an element in storage. */
export const STORAGE_BYTES: Readonly<Record<StorageType, number>> = { float32: 4, bfloat16: 2, float16: 2 };

/** A source, and every header that it includes, directly or not, by the name under which it does. */
export interface KernelSource {
  readonly source: string;
  readonly headers: Readonly<Record<string, string>>;
}

const read = (name: string): string => readFileSync(new URL(name, SOURCES), 'utf8');

/** `sources/<file>.cu` with its headers. */
export function kernelSource(file: string): KernelSource {
  const source = read(`${file}.cu`);
  const headers: Record<string, string> = {};
  const follow = (text: string): void => {
    for (const [, name = ''] of text.matchAll(/^#include "([^"]+)"/gm)) {
      if (name in headers) continue;
      headers[name] = read(name);
      follow(headers[name]);
    }
  };
  follow(source);
  return { source, headers };
}

/**
 * Macros that `sources/<file>.cu` is compiled with: its storage, the constants that it shares with its launches and, where it
 * depends on it, the width of heads.
 */
export function kernelDefines(file: string, storage: StorageType, head?: number): Record<string, number> {
  const tiles = (TILES as Readonly<Record<string, Readonly<Record<string, number>> | undefined>>)[file];
  return {
    STORAGE: STORAGE_CODE[storage],
    ...tiles,
    ...(head !== undefined && { HEAD: head }),
    ...(head !== undefined && file === 'attention' && { SHORT: shortStep(head) }),
  };
}
