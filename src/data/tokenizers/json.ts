import { RunError } from '../../errors.js';
import { readJsonValue } from '../../files/json.js';

export type Fields = Readonly<Record<string, unknown>>;

/** The largest `tokenizer.json` in use (Gemma 3, 262,144 tokens) has 33 MB. */
const LARGEST_FILE = 128 * 2 ** 20;

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The object in a JSON file, with or without a byte-order mark.
 * @throws RunError that names the file
 */
export function readFields(file: string): Fields {
  const value = readJsonValue(file, LARGEST_FILE);
  if (!isFields(value)) throw new RunError(`${file}: expected a JSON object`);
  return value;
}
