import type { Json } from '../results/canonical.js';
import type { Provenance } from '../results/provenance.js';
import type { Row, Schema } from '../results/schema.js';
import { ResultWriter } from '../results/writer.js';

export const TRAIN_SCHEMA: Schema = {
  name: 'train',
  columns: [
    { name: 'step', kind: 'key', description: 'optimizer step, counted from 1', display: 'count' },
    {
      name: 'tokens',
      kind: 'result',
      description: 'tokens seen up to and including this step',
      display: 'count',
    },
    {
      name: 'loss',
      kind: 'result',
      description: 'nats per target of running text',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'answer_loss',
      kind: 'result',
      description: 'nats per target of answers',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'held_out_loss',
      kind: 'result',
      description: 'nats per target of text that is not trained on, after this step',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'held_out_answer_loss',
      kind: 'result',
      description: 'nats per target of answers that are not trained on, after this step',
      digits: 6,
      better: 'lower',
    },
    { name: 'learning_rate', kind: 'result', description: 'of this step', digits: 10 },
    {
      name: 'gradient_norm',
      kind: 'result',
      description: 'L2 norm of all gradients, before clipping',
      digits: 6,
    },
    {
      name: 'seconds',
      kind: 'timing',
      description: 'of this step, without held-out loss',
      digits: 6,
      display: 'seconds',
    },
    { name: 'tokens_per_second', kind: 'timing', description: 'of this step', digits: 1, display: 'count' },
  ],
};

/** The rows of a run, one per step; after a resume it goes on behind the step that was resumed from. */
export class TrainLog {
  private constructor(private readonly writer: ResultWriter) {}

  /** @param settings everything that determines the rows */
  static open(directory: string, settings: Json, provenance: Provenance, resume: boolean): TrainLog {
    return new TrainLog(ResultWriter.open(directory, TRAIN_SCHEMA, { settings, provenance, resume }));
  }

  /**
   * Takes over the rows up to `step` of an earlier run; what it logged beyond is left out and computed anew.
   * @returns whether they were all there
   */
  restore(step: number): boolean {
    for (let row = 1; row <= step; row++) if (this.writer.get({ step: row }) === undefined) return false;
    return true;
  }

  append(row: Row): void {
    this.writer.append(row);
  }

  get rows(): Row[] {
    return this.writer.rows;
  }

  get files(): string[] {
    return this.writer.files;
  }

  close(): void {
    this.writer.close();
  }
}
