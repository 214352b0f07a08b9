import type { Json } from '../results/canonical.js';

/** Sequences to learn from, row-major. */
export interface Batch {
  readonly rows: number;
  readonly length: number;
  /** Tokens [rows, length]. */
  readonly tokens: Int32Array;
  /** The token that follows each of the positions below: [rows, P], P = length where `positions` is null. */
  readonly targets: Int32Array;
  /** Positions with a loss, P ascending ones per row; null: all. */
  readonly positions: readonly Int32Array[] | null;
  /** Factors [rows, P] whose sum with the losses is minimised; null: their mean. */
  readonly weights: Float32Array | null;
  /** 1 where the target is part of an answer, 0 in running text, [rows, P]; null: all running text. */
  readonly answers: Uint8Array | null;
  /** Tokens that are no padding; absent: all. */
  readonly filled?: number;
  /** Bytes of text that these stand for, about; absent where nobody asks. */
  readonly bytes?: number;
  /** 1 where the target completes a bigram that its row has shown before, [rows, P]; absent where nobody asks. */
  readonly repeated?: Uint8Array;
}

/** A batch that is measured only, and which of the task's sources it is from. */
export interface HeldOutBatch extends Batch {
  readonly source: number;
}

/** A text that the loss is measured on. */
export interface HeldOutSource {
  readonly name: string;
  /** UTF-8 bytes that a token stands for on average: bits per byte follow. */
  readonly bytesPerToken: number;
}

/** How far training is in one of its texts. */
export interface SourceProgress {
  readonly source: string;
  /** Tokens trained on. */
  readonly tokens: number;
  /** Share of the tokens that the recipe asks for. */
  readonly share: number;
  /** Tokens trained on over the tokens that the text has. */
  readonly epochs: number;
}

/**
 * A part of a run with sequences of one length. A run has one or several; its schedule may span several.
 */
export interface Stage {
  readonly steps: number;
  /** Sequences per micro-batch. */
  readonly batch: number;
  /** Tokens per sequence. */
  readonly length: number;
}

/** What a model is trained on. */
export interface TrainingTask {
  readonly name: string;
  readonly stages: readonly Stage[];
  /** Everything that determines the batches: a run may be continued only with an equal one. */
  readonly identity: Json;
  /** SHA-256 of the texts read, by name. */
  readonly inputs: Readonly<Record<string, string>>;
  /** The next batch of a stage. */
  next(stage: number): Batch;
  /** How far it is in each of its texts; none where batches are made up. */
  progress(): readonly SourceProgress[];
  /** Where the task is in its data and its random numbers. */
  state(): Json;
  /** Goes to where `state` was taken by an equal task. @throws UsageError for what is no such state */
  restore(state: Json): void;
  /** Texts that are reported apart; none where only the mean makes sense. */
  readonly sources: readonly HeldOutSource[];
  /** Batches that are never trained on, always the same, source by source. */
  heldOut(): Iterable<HeldOutBatch>;
  dispose(): void;
}

/** Index of the stage that `step`, counted from 1, belongs to. */
export function stageOf(stages: readonly Stage[], step: number): number {
  let last = 0;
  for (const [index, stage] of stages.entries()) {
    last += stage.steps;
    if (step <= last) return index;
  }
  return stages.length - 1;
}

export function totalSteps(stages: readonly Stage[]): number {
  return stages.reduce((sum, { steps }) => sum + steps, 0);
}

/** Windows [rows, length + 1] as a batch of next-token prediction. */
export function windowBatch(windows: Int32Array, rows: number): Batch {
  const width = windows.length / rows;
  const length = width - 1;
  const tokens = new Int32Array(rows * length);
  const targets = new Int32Array(rows * length);
  for (let row = 0; row < rows; row++) {
    const start = row * width;
    tokens.set(windows.subarray(start, start + length), row * length);
    targets.set(windows.subarray(start + 1, start + width), row * length);
  }
  return { rows, length, tokens, targets, positions: null, weights: null, answers: null };
}
