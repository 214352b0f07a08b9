/** Training steps that run from a recording, where the engine records such work; the others are computed. */
import { isMemoryError } from '../errors.js';
import type { LanguageModel, Objective } from '../model/index.js';
import {
  IDLE_RULE,
  NotRecordable,
  type RecordedWork,
  refuseRecorder,
  stepRecorder,
  type StepRecorder,
} from '../ops/index.js';
import * as tf from '../tf.js';
import { Optimizer, type TrainingOptimizer } from './optimizer.js';
import { addLosses, noLosses, objectiveGradients, type LossSums } from './step.js';
import type { Batch } from './task.js';

/** What came of a step. */
export interface StepOutcome {
  readonly losses: LossSums;
  /** Of the gradients, before clipping. */
  readonly norm: number;
}

/** A step on the only micro-batch that it has. */
export interface StepRequest {
  readonly model: LanguageModel;
  readonly batch: Batch;
  readonly recompute: boolean;
  /** Counted from 1. */
  readonly step: number;
  readonly learningRate: number;
}

/** What must be as it was for a recording to be right. */
interface Kind {
  readonly model: LanguageModel;
  readonly rows: number;
  readonly length: number;
  readonly parameters: readonly object[];
}

const TOO_LARGE = 'not enough memory for a recorded training step';

/**
 * The first step of a kind is computed, which also prepares what happens only once. At the second the work is recorded and
 * run without changing anything; then it is computed too, and unless both agree to the last bit, the rest is computed. Later
 * steps are run from the recording until shapes, model or parameters are others, or the engine needs the memory.
 */
export class RecordedSteps {
  private kind: Kind | null = null;
  private work: RecordedWork | null = null;
  /** What the recording found for the step that is being computed. */
  private rehearsed: StepOutcome | null = null;
  /** Whether steps of this kind are computed. */
  private isComputed = false;

  constructor(private readonly optimizer: TrainingOptimizer) {}

  /** Does the step, or returns null: then it is to be computed, and `computed` told. */
  run(request: StepRequest): StepOutcome | null {
    const { optimizer } = this;
    const recorder = stepRecorder();
    const { positions, weights } = request.batch;
    const fits = optimizer instanceof Optimizer && positions === null && weights === null;
    if (!fits || recorder?.recordWork === undefined) return null;
    if (this.kind === null || !isSame(this.kind, request)) {
      this.dispose();
      this.kind = kindOf(request);
      return null;
    }
    if (this.isComputed) return null;
    if (this.work?.isDisposed === true) return this.refuse(TOO_LARGE);
    const rule = optimizer.ruleOf(request.step, request.learningRate);
    if (this.work !== null) return replay(this.work, request.batch, rule);
    this.rehearse(recorder, optimizer, request);
    return null;
  }

  /** Compares the step that was computed with what its recording has found. */
  computed({ losses, norm }: StepOutcome): void {
    const { rehearsed } = this;
    this.rehearsed = null;
    if (rehearsed === null) return;
    const kinds = Object.keys(losses) as (keyof LossSums)[];
    const isSame = kinds.every((kind) => Object.is(rehearsed.losses[kind], losses[kind]));
    if (!isSame || !Object.is(rehearsed.norm, norm)) {
      this.refuse('the recorded training step and the computed one differ');
    }
  }

  dispose(): void {
    this.work?.dispose();
    this.work = null;
    this.kind = null;
    this.isComputed = false;
  }

  private rehearse(recorder: StepRecorder, optimizer: Optimizer, request: StepRequest): void {
    try {
      this.work = recordedStep(recorder, optimizer, request);
      this.rehearsed = replay(this.work, request.batch, IDLE_RULE);
    } catch (error) {
      this.refuse(isMemoryError(error) ? TOO_LARGE : error instanceof Error ? error.message : String(error));
    }
  }

  /** Computes steps of this kind from now on. */
  private refuse(reason: string): null {
    this.work?.dispose();
    this.work = null;
    this.isComputed = true;
    refuseRecorder(reason);
    return null;
  }
}

function kindOf({ model, batch: { rows, length } }: StepRequest): Kind {
  return { model, rows, length, parameters: dataOf(model) };
}

function isSame(kind: Kind, { model, batch: { rows, length } }: StepRequest): boolean {
  if (kind.model !== model || kind.rows !== rows || kind.length !== length) return false;
  const parameters = dataOf(model);
  return kind.parameters.every((data, i) => data === parameters[i]);
}

const dataOf = ({ parameters }: LanguageModel): object[] =>
  Array.from(parameters.values(), ({ dataId }) => dataId);

function recordedStep(
  recorder: StepRecorder,
  optimizer: Optimizer,
  { model, batch: { rows, length }, recompute, step, learningRate }: StepRequest,
): RecordedWork {
  const tokens = { shape: [rows, length], dtype: 'int32' } as const;
  const rule = { shape: [IDLE_RULE.length], dtype: 'float32' } as const;
  const compute = (...inputs: tf.Tensor[]): tf.Tensor[] => {
    const [tokens, targets, rule] = inputs as [tf.Tensor2D, tf.Tensor2D, tf.Tensor1D];
    const objective = (): Objective => model.objective(tokens, targets, null, { recompute });
    const { gradients, losses } = objectiveGradients(model, objective);
    try {
      const norm = optimizer.update(gradients, step, learningRate, rule);
      if (typeof norm === 'number') throw new NotRecordable('the engine reads the norm of the gradients');
      return [losses, norm];
    } catch (error) {
      losses.dispose();
      throw error;
    } finally {
      tf.dispose([...gradients.values()]);
    }
  };
  const work = recorder.recordWork?.({ inputs: [tokens, tokens, rule], compute });
  if (work === undefined) throw new NotRecordable('the engine records no training steps');
  return work;
}

function replay(work: RecordedWork, batch: Batch, rule: Float32Array): StepOutcome {
  const [found, norm] = work.run([batch.tokens, batch.targets, rule]);
  const losses = noLosses();
  addLosses(losses, found ?? [], batch);
  return { losses, norm: norm?.[0] ?? NaN };
}
