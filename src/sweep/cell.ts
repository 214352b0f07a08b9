/** One place in which everything runs that may fail while other work continues after it. */
import type { Engine } from '../engines/engine.js';
import { releasedOnFailure } from '../ops/held.js';

/**
 * Runs the work of a cell. If it fails, the engine holds afterwards what it held before, whatever the work had made: the next cell
 * has as much memory as if this one had not been tried. State that several cells share must be given up by its owner then,
 * as far as a failed cell may have changed it.
 * @param isFailure whether a result is a failure as well
 */
export async function runCell<T>(
  engine: Engine,
  work: () => Promise<T>,
  isFailure: (result: T) => boolean = () => false,
): Promise<T> {
  let succeeds = false;
  try {
    const result = await releasedOnFailure(work, isFailure);
    succeeds = !isFailure(result);
    return result;
  } finally {
    // What lies cached in pieces is of no use to work of other sizes.
    if (!succeeds) engine.deviceMemory?.trim();
  }
}
