/** Numbers as people write them. Of tokens, `4k` is 4,096 and `1m` 1,048,576, as in the paper. */
import { UsageError } from '../errors.js';

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 1024, m: 1048576 };

/** `64k` → 65,536. UsageError for anything that is not a positive whole number of tokens. */
export function parseTokenCount(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)([km]?)$/i.exec(text.trim()) ?? [];
  const count = Number(digits) * (UNITS[unit?.toLowerCase() ?? ''] ?? NaN);
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new UsageError(
      `'${text}' is not a number of tokens: write a positive whole number, with k for 1,024 or m for 1,048,576, such as 4096, 64k or 1m`,
    );
  }
  return count;
}

/** `4k,64k` → [4096, 65536], in the order given, repetitions dropped. */
export function parseTokenCounts(text: string): number[] {
  return [...new Set(text.split(',').map(parseTokenCount))];
}

const BYTE_UNITS: Readonly<Record<string, number>> = { '': 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 };

/** `5GB` → 5,000,000,000. UsageError for anything that is not a positive whole number of bytes. */
export function parseByteCount(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([kmgt]?b)?$/i.exec(text.trim()) ?? [];
  const count = Number(digits) * (BYTE_UNITS[(unit ?? '').toLowerCase().replace(/^b$/, '')] ?? NaN);
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new UsageError(`'${text}' is not a number of bytes: write one such as 500MB or 5GB`);
  }
  return count;
}

/** A number of sequences, or `auto`. @throws UsageError for anything else */
export function parseBatch(text: string): number | 'auto' {
  const word = text.trim();
  if (word === 'auto') return word;
  const count = Number(word);
  if (!/^\d+$/.test(word) || !Number.isSafeInteger(count) || count < 1) {
    throw new UsageError(`'${word}' is not a number of sequences: write a whole number from 1, or auto`);
  }
  return count;
}

/** A finite number. @throws UsageError for anything else */
export function parseNumber(text: string): number {
  const value = Number(text);
  // An empty text would be zero.
  if (text.trim() === '' || !Number.isFinite(value)) throw new UsageError(`'${text}' is not a number`);
  return value;
}
