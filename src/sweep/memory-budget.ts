import { RunError } from '../errors.js';
import type { Engine, StorageType } from '../engines/engine.js';
import type { InferenceMemory } from '../model/costs.js';
import { formatBytes } from '../results/display.js';

/** Bytes per stored element. */
export const ELEMENT_BYTES: Readonly<Record<StorageType, number>> = { float32: 4, bfloat16: 2, float16: 2 };

/**
 * Refuses work that cannot fit, before it starts.
 *
 * @param bytes what it is going to take beyond what is in memory already
 * @throws RunError with the bytes needed and available
 */
export function requireMemory(engine: Engine, bytes: number, what: string): void {
  const available = engine.availableBytes();
  if (bytes <= available) return;
  const exact = (count: number): string => `${count} bytes (${formatBytes(count)})`;
  throw new RunError(
    `${what} needs ${exact(bytes)}, available are ${exact(available)}: take a shorter context or a smaller model`,
  );
}

/** What a prompt needs beside the weights. */
export const besideWeights = ({ total, weights }: InferenceMemory): number => total - weights;

/** Largest resident memory of this process since it began, in bytes. */
export const peakResidentBytes = (): number => process.resourceUsage().maxRSS * 1024;
