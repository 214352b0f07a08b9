import type { Json } from '../results/canonical.js';
import type { Provenance } from '../results/provenance.js';
import type { Row, Schema } from '../results/schema.js';
import { CellTable, type TableSchema } from '../results/typed.js';
import { ResultWriter } from '../results/writer.js';
import type { EventFile } from './event-file.js';
import { HELD_OUT_SCHEMA, type HeldOutCell, type HeldOutFigures, type HeldOutKey } from './held-out.js';
import { SOURCES_SCHEMA, type SourceCell, type SourceFigures, type SourceKey } from './sources-table.js';

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
  /** The loss in bits over the bytes of text that its tokens stand for, on average over the source; null for made-up text. */
  readonly bitsPerByte: number | null;
  readonly answerLoss: number | null;
  /** Of text that is not trained on, after this step; null where it was not due. */
  readonly heldOutLoss: number | null;
  readonly heldOutAnswerLoss: number | null;
  readonly learningRate: number;
  /** L2 norm of all gradients, before clipping. */
  readonly gradientNorm: number;
  /** Of the source that has gone through most often; null for made-up text. */
  readonly epochs: number | null;
  readonly seconds: number;
  readonly tokensPerSecond: number;
  /** Operations by formula, forward and backward, without those that are computed twice. */
  readonly flopsPerSecond: number;
  /** flopsPerSecond over the measured rate of matmuls; null where it was not measured. */
  readonly mfu: number | null;
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
      name: 'bits_per_byte',
      kind: 'result',
      description: 'the loss in bits over bytes of UTF-8 text, which compares over tokenizers',
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
      name: 'epochs',
      kind: 'result',
      description: 'tokens trained on over those of the text; of several the most',
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
    {
      name: 'flops_per_second',
      kind: 'timing',
      description: 'operations by formula, without those computed twice',
      digits: 0,
      display: 'count',
    },
    {
      name: 'mfu',
      kind: 'timing',
      description: 'flops_per_second over the measured rate of matmuls',
      digits: 4,
      display: 'percent',
    },
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

/** Tables that some runs have. */
interface ApartTables {
  /** Texts that are measured apart. */
  readonly heldOut: ApartTable<HeldOutKey, HeldOutFigures> | null;
  /** Sources of a mixture. */
  readonly sources: ApartTable<SourceKey, SourceFigures> | null;
}

interface ApartTable<K extends object, F extends object> {
  readonly names: readonly string[];
  readonly writer: ResultWriter;
  readonly table: CellTable<K, F>;
}

export interface LogOptions {
  /** Everything that determines the steps. */
  readonly settings: Json;
  readonly provenance: Provenance;
  readonly resume: boolean;
  /** Texts that are measured apart. */
  readonly heldOut: readonly string[];
  /** Sources of a mixture; with one alone its epochs are in the steps. */
  readonly sources: readonly string[];
  /** Where TensorBoard reads; null: nowhere. */
  readonly events: EventFile | null;
}

/** The steps of a run; a resumed run continues after the step it resumed from. */
export class TrainLog {
  private readonly table: CellTable<StepKey, StepFigures>;

  private constructor(
    private readonly writer: ResultWriter,
    private readonly apart: ApartTables,
    private readonly events: EventFile | null,
  ) {
    this.table = new CellTable(TRAIN_SCHEMA, writer);
  }

  static open(directory: string, options: LogOptions): TrainLog {
    const open = (schema: Schema): ResultWriter => ResultWriter.open(directory, schema, options);
    const apart = <K extends object, F extends object>(
      schema: TableSchema<K, F>,
      names: readonly string[],
      least: number,
    ) => {
      if (names.length < least) return null;
      const writer = open(schema);
      return { names, writer, table: new CellTable<K, F>(schema, writer) };
    };
    const { heldOut, sources, events } = options;
    const tables = {
      heldOut: apart(HELD_OUT_SCHEMA, heldOut, 1),
      sources: apart(SOURCES_SCHEMA, sources, 2),
    };
    return new TrainLog(open(TRAIN_SCHEMA), tables, events);
  }

  /**
   * Takes over the steps up to `step` of an earlier run; what it logged beyond is left out and computed anew.
   * @returns whether they were all there
   */
  restore(step: number): boolean {
    const { heldOut, sources } = this.apart;
    for (let earlier = 1; earlier <= step; earlier++) {
      if (!this.table.has({ step: earlier })) return false;
      // Texts were measured after this step or they were not; asking for the rows takes them over.
      for (const source of heldOut?.names ?? []) heldOut?.table.has({ step: earlier, source });
      for (const source of sources?.names ?? []) sources?.table.has({ step: earlier, source });
    }
    return true;
  }

  append(step: TrainStep, heldOut: readonly HeldOutCell[], sources: readonly SourceCell[]): void {
    this.table.append(step);
    for (const cell of heldOut) this.apart.heldOut?.table.append(cell);
    for (const cell of sources) this.apart.sources?.table.append(cell);
    this.events?.append(step.step, scalarsOf(step, heldOut, sources));
  }

  get steps(): TrainStep[] {
    return this.table.cells.filter((cell) => cell.status === 'ok');
  }

  get rows(): Row[] {
    return this.writer.rows;
  }

  get files(): string[] {
    return this.writers.flatMap(({ files }) => files);
  }

  close(): void {
    for (const writer of this.writers) writer.close();
    this.events?.close();
  }

  private get writers(): ResultWriter[] {
    const { heldOut, sources } = this.apart;
    return [this.writer, heldOut?.writer, sources?.writer].filter((writer) => writer !== undefined);
  }
}

/** What TensorBoard shows of a step, by tag. */
function scalarsOf(
  step: TrainStep,
  heldOut: readonly HeldOutCell[],
  sources: readonly SourceCell[],
): Map<string, number> {
  const tagged: [tag: string, value: number | null][] = [
    ['train/loss', step.loss],
    ['train/answer_loss', step.answerLoss],
    ['train/bits_per_byte', step.bitsPerByte],
    ['train/learning_rate', step.learningRate],
    ['train/gradient_norm', step.gradientNorm],
    ['train/tokens', step.tokens],
    ['train/epochs', step.epochs],
    ['speed/tokens_per_second', step.tokensPerSecond],
    ['speed/flops_per_second', step.flopsPerSecond],
    ['speed/mfu', step.mfu],
    ['held_out/loss', step.heldOutLoss],
    ['held_out/answer_loss', step.heldOutAnswerLoss],
    ...heldOut.flatMap(({ source, loss, bitsPerByte }): [string, number][] => [
      [`held_out/${source}/loss`, loss],
      [`held_out/${source}/bits_per_byte`, bitsPerByte],
    ]),
    ...sources.map(({ source, epochs }): [string, number] => [`epochs/${source}`, epochs]),
  ];
  return new Map(tagged.filter((entry): entry is [string, number] => entry[1] !== null));
}
