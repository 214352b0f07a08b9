/** JSON files that are read back: size, syntax and shape are checked, and errors name file and field. */
import * as v from 'valibot';
import { RunError } from '../errors.js';
import { readBytes } from './read.js';

/** More than any configuration, log or state has; files with long lists give their own limit. */
const MAX_JSON_BYTES = 16 * 2 ** 20;

/** What a file should hold; see https://valibot.dev */
export type Shape<T> = v.GenericSchema<unknown, T>;

/** An object with fields of any name, also `__proto__`, which valibot's own `record` leaves out. */
export const OBJECT = v.custom<Readonly<Record<string, unknown>>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'expected an object',
);

/**
 * The value of a JSON file, a byte-order mark left out.
 * @throws RunError where it is missing, not a regular file, longer than `limit` bytes or malformed
 */
export function readJsonValue(path: string, limit: number = MAX_JSON_BYTES): unknown {
  return parseJson(path, readBytes(path, limit));
}

/** A JSON value from bytes that `where` names in errors. @throws RunError where they are no JSON */
export function parseJson(where: string, bytes: Uint8Array | string): unknown {
  const text = typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('utf8');
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    const problem = error instanceof Error ? error.message.replace(/\s+/g, ' ').slice(0, 200) : '';
    throw new RunError(`${where}: not valid JSON: ${problem}`, { cause: error });
  }
}

/**
 * A JSON file of a known shape. Fields the shape does not mention are left out.
 * @throws RunError as `readJsonValue`, and where a field is not what it should be: `FILE: step: expected a number, …`
 */
export function readJsonAs<T>(path: string, shape: Shape<T>, limit?: number): T {
  return checkShape(path, readJsonValue(path, limit), shape);
}

/** Checks a value that has been parsed already. @throws RunError naming `where` and the field */
export function checkShape<T>(where: string, value: unknown, shape: Shape<T>): T {
  const result = v.safeParse(shape, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const field = v.getDotPath(issue);
  if (issue.input === undefined && field !== null) throw new RunError(`${where}: ${field} is missing`);
  const found = describe(issue.input);
  // valibot's own messages begin so and hold the whole value; a shape's own message says what is expected.
  const expected = issue.message.startsWith('Invalid')
    ? `expected ${issue.expected ?? issue.type}`
    : issue.message;
  throw new RunError(`${where}: ${field === null ? '' : `${field}: `}${expected}, found ${found}`);
}

/** A value as an error shows it: short, whatever it holds. */
function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
