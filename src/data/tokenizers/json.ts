import { readFileSync, statSync } from 'node:fs';
import { RunError } from '../../errors.js';

export type Fields = Readonly<Record<string, unknown>>;

/** The largest `tokenizer.json` in use (Gemma 3, 262,144 tokens) has 33 MB. */
const LARGEST_FILE = 256 * 2 ** 20;

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The object in a JSON file, with or without a byte-order mark.
 * @throws RunError that names the file
 */
export function readFields(file: string): Fields {
  let value: unknown;
  try {
    const { size } = statSync(file);
    if (size > LARGEST_FILE) throw new Error(`${size} bytes are more than the ${LARGEST_FILE} that are read`);
    value = JSON.parse(readFileSync(file, 'utf8').replace(/^\uFEFF/, ''));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new RunError(`cannot read ${file}: ${reason}`, { cause: error });
  }
  if (!isFields(value)) throw new RunError(`${file}: expected a JSON object`);
  return value;
}
