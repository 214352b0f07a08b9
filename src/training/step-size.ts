import { costs } from '../model/index.js';
import type { ModelConfig } from '../model/config.js';
import type { Batch } from './task.js';

/** What the micro-batches of a step have, on all ranks together. */
export class StepSize {
  /** That are no padding. */
  tokens = 0;
  /** Bytes of text that these stand for; null where nobody knows. */
  bytes: number | null = 0;
  flops = 0;
  private readonly flopsPerToken: (length: number) => number;

  constructor(config: ModelConfig) {
    const cost = costs(config);
    this.flopsPerToken = (length) => cost.trainFlopsPerToken(length);
  }

  add(batch: Batch): void {
    const filled = batch.filled ?? batch.rows * batch.length;
    this.tokens += filled;
    this.flops += filled * this.flopsPerToken(batch.length);
    this.bytes = batch.bytes === undefined || this.bytes === null ? null : this.bytes + batch.bytes;
  }
}
