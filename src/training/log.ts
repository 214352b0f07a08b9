import type { Json } from '../results/canonical.js';
import type { Provenance } from '../results/provenance.js';
import type { Row, Schema } from '../results/schema.js';
import { CellTable, type TableSchema } from '../results/typed.js';
import { ResultWriter } from '../results/writer.js';
import { HELD_OUT_SCHEMA, type HeldOutCell, type HeldOutFigures, type HeldOutKey } from './held-out.js';

export interface StepKey {
  /** Optimizer step, counted from 1. */
  readonly step: number;
}

/** What a step of training came to. Losses are in nats per target, null where there are none. */
export interface StepFigures {
  /** Tokens seen up to and including this step. */
  readonly tokens: number;
  /** Of running text. */
  readonly loss: number | null;
  readonly answerLoss: number | null;
  /** Of text that is not trained on, after this step; null where it was not due. */
  readonly heldOutLoss: number | null;
  readonly heldOutAnswerLoss: number | null;
  readonly learningRate: number;
  /** L2 norm of all gradients, before clipping. */
  readonly gradientNorm: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
}

export type TrainStep = StepKey & StepFigures;

export const TRAIN_SCHEMA: TableSchema<StepKey, StepFigures> = {
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
      tolerance: 0.1,
      digits: 6,
      better: 'lower',
    },
    {
      name: 'answer_loss',
      kind: 'result',
      description: 'nats per target of answers',
      tolerance: 0.1,
      digits: 6,
      better: 'lower',
    },
    {
      name: 'held_out_loss',
      kind: 'result',
      description: 'nats per target of text that is not trained on, after this step',
      tolerance: 0.1,
      digits: 6,
      better: 'lower',
    },
    {
      name: 'held_out_answer_loss',
      kind: 'result',
      description: 'nats per target of answers that are not trained on, after this step',
      tolerance: 0.1,
      digits: 6,
      better: 'lower',
    },
    { name: 'learning_rate', kind: 'result', description: 'of this step', digits: 10 },
    {
      name: 'gradient_norm',
      kind: 'result',
      description: 'L2 norm of all gradients, before clipping',
      tolerance: 1,
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

/** Where the steps of a run go. */
export type StepLog = Pick<TrainLog, 'restore' | 'append' | 'steps' | 'rows' | 'files' | 'close'>;

/** Of the ranks that leave the log to rank 0. */
export const NO_LOG: StepLog = {
  restore: () => true,
  append() {
    // Rank 0 has the same step.
  },
  steps: [],
  rows: [],
  files: [],
  close() {
    // Nothing was opened.
  },
};

/** The steps of a run; a resumed run continues after the step it resumed from. */
export class TrainLog {
  private readonly table: CellTable<StepKey, StepFigures>;

  private readonly heldOut: CellTable<HeldOutKey, HeldOutFigures> | null;

  /** @param heldOutWriter where texts that are measured apart are logged; null: there are none */
  private constructor(
    private readonly writer: ResultWriter,
    private readonly heldOutWriter: ResultWriter | null,
    private readonly sources: readonly string[],
  ) {
    this.table = new CellTable(TRAIN_SCHEMA, writer);
    this.heldOut = heldOutWriter && new CellTable(HELD_OUT_SCHEMA, heldOutWriter);
  }

  /**
   * @param settings everything that determines the steps
   * @param sources texts that are measured apart
   */
  static open(
    directory: string,
    sources: readonly string[],
    options: { readonly settings: Json; readonly provenance: Provenance; readonly resume: boolean },
  ): TrainLog {
    const open = (schema: Schema): ResultWriter => ResultWriter.open(directory, schema, options);
    return new TrainLog(open(TRAIN_SCHEMA), sources.length > 0 ? open(HELD_OUT_SCHEMA) : null, sources);
  }

  /**
   * Takes over the steps up to `step` of an earlier run; what it logged beyond is left out and computed anew.
   * @returns whether they were all there
   */
  restore(step: number): boolean {
    for (let earlier = 1; earlier <= step; earlier++) {
      if (!this.table.has({ step: earlier })) return false;
      // Texts were measured after this step or they were not; asking for the rows takes them over.
      for (const source of this.sources) this.heldOut?.has({ step: earlier, source });
    }
    return true;
  }

  append(step: TrainStep, heldOut: readonly HeldOutCell[]): void {
    this.table.append(step);
    for (const cell of heldOut) this.heldOut?.append(cell);
  }

  get steps(): TrainStep[] {
    return this.table.cells.filter((cell) => cell.status === 'ok');
  }

  get rows(): Row[] {
    return this.writer.rows;
  }

  get files(): string[] {
    return [...this.writer.files, ...(this.heldOutWriter?.files ?? [])];
  }

  close(): void {
    this.writer.close();
    this.heldOutWriter?.close();
  }
}
