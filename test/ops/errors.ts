/** The largest errors of a suite, with what they are of. */
import * as assert from 'uvu/assert';
import { ROW_FACTOR, relativeError, worstRowError } from './relative-error.js';

export class Errors {
  private readonly worst = new Map<string, { error: number; what: string }>();

  /** @throws where an error of this kind is above the tolerance */
  hold(kind: string, what: string, error: number, tolerance: number): void {
    if (!(error <= (this.worst.get(kind)?.error ?? 0))) this.worst.set(kind, { error, what });
    assert.ok(error <= tolerance, `${kind} of ${what}: off by ${error}, more than ${tolerance}`);
  }

  /** Holds a tensor as a whole and, where it has rows, row by row. */
  holdRows(
    what: string,
    tolerance: number,
    actual: ArrayLike<number>,
    expected: ArrayLike<number>,
    shape: readonly number[],
  ): void {
    this.hold('whole', what, relativeError(actual, expected), tolerance);
    const width = shape.length > 1 ? (shape.at(-1) ?? 0) : 0;
    if (width > 0) this.hold('row', what, worstRowError(actual, expected, width), ROW_FACTOR * tolerance);
  }

  /** A line for each kind. */
  toString(): string {
    const line = ([kind, { error, what }]: [string, { error: number; what: string }]): string =>
      `\n  ${kind}: at most ${error.toExponential(1)}, ${what}`;
    return [...this.worst].map(line).join('');
  }
}
