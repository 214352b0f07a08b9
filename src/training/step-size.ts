import { costs } from '../model/index.js';
import type { ModelConfig } from '../model/config.js';
import type { Batch } from './task.js';

/** Operations of training on a token of sequences of a length. */
export type FlopsPerToken = (length: number) => number;

/** The same number for the same length is worked out once: it takes the host as long as the rest of a recorded step. */
export function flopsPerToken(config: ModelConfig): FlopsPerToken {
  const cost = costs(config);
  const known = new Map<number, number>();
  return (length) => {
    const flops = known.get(length) ?? cost.trainFlopsPerToken(length);
    known.set(length, flops);
    return flops;
  };
}

/** What the micro-batches of a step have, on all ranks together. */
export class StepSize {
  /** That are no padding. */
  tokens = 0;
  /** Bytes of text that these stand for; null where nobody knows. */
  bytes: number | null = 0;
  flops = 0;

  constructor(private readonly flopsPerToken: FlopsPerToken) {}

  add(batch: Batch): void {
    const filled = batch.filled ?? batch.rows * batch.length;
    this.tokens += filled;
    this.flops += filled * this.flopsPerToken(batch.length);
    this.bytes = batch.bytes === undefined || this.bytes === null ? null : this.bytes + batch.bytes;
  }
}
