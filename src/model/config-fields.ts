/** Reads the fields of a configuration object one by one, with errors that name the field and its allowed values. */
import { UsageError } from '../errors.js';

export interface FieldReader {
  /** Whether the field is given and not null. */
  has(name: string): boolean;
  positiveInteger(name: string, fallback?: number): number;
  /** An integer from 0 on. */
  count(name: string, fallback?: number): number;
  positiveNumber(name: string, fallback?: number): number;
  nonNegativeNumber(name: string, fallback?: number): number;
  /** A number from 0 to 1. */
  share(name: string, fallback: number): number;
  text(name: string): string;
  boolean(name: string, fallback: boolean): boolean;
  choice<T extends string>(name: string, allowed: readonly T[], fallback?: T): T;
  object(name: string): FieldReader;
  /** Refuses given fields that are not among `known`, unless they are null. */
  rejectUnknown(known: readonly string[]): void;
}

/**
 * @param path of the object in errors
 * @param what is read, in errors
 */
export function readFields(input: object, path = '', what = 'configuration'): FieldReader {
  const values = input as Readonly<Record<string, unknown>>;
  const fail = (name: string, expected: string): never => {
    const found = values[name] !== undefined ? `found ${JSON.stringify(values[name])}` : 'it is missing';
    throw new UsageError(`${what}: ${path}${name} must be ${expected}, ${found}`);
  };
  const has = (name: string): boolean => values[name] !== undefined && values[name] !== null;
  const number = (name: string, fallback: number | undefined): unknown =>
    has(name) ? values[name] : fallback;

  return {
    has,
    positiveInteger(name, fallback) {
      const value = number(name, fallback);
      if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value;
      return fail(name, 'a positive integer');
    },
    count(name, fallback) {
      const value = number(name, fallback);
      if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
      return fail(name, 'an integer from 0 on');
    },
    share(name, fallback) {
      const value = number(name, fallback);
      if (typeof value === 'number' && value >= 0 && value <= 1) return value;
      return fail(name, 'a number from 0 to 1');
    },
    text(name) {
      const value = values[name];
      return typeof value === 'string' && value.trim() !== '' ? value : fail(name, 'a text');
    },
    positiveNumber(name, fallback) {
      const value = number(name, fallback);
      if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
      return fail(name, 'a positive number');
    },
    nonNegativeNumber(name, fallback) {
      const value = number(name, fallback);
      if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value;
      return fail(name, 'a number from 0 up');
    },
    boolean(name, fallback) {
      const value = has(name) ? values[name] : fallback;
      return typeof value === 'boolean' ? value : fail(name, 'true or false');
    },
    choice(name, allowed, fallback) {
      const value = has(name) ? values[name] : fallback;
      const match = allowed.find((candidate) => candidate === value);
      return match ?? fail(name, `one of ${allowed.join(', ')}`);
    },
    object(name) {
      const value = values[name];
      if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        return fail(name, 'an object');
      }
      return readFields(value, `${path}${name}.`, what);
    },
    rejectUnknown(known) {
      const stranger = Object.keys(values).find((name) => has(name) && !known.includes(name));
      if (stranger === undefined) return;
      throw new UsageError(`${what}: unknown field ${path}${stranger}; the fields are ${known.join(', ')}`);
    },
  };
}
