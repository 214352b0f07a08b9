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

/** Tokens of a step at most: more of them keep a GPU busy for longer than the host needs to prepare it, whatever the model. */
export const MOST_TOKENS = 65_536;

const TOO_LARGE = 'not enough memory for a recorded training step';

/**
 * The first step of a kind is computed, which also prepares what happens only once. At the second the work is recorded and
 * run without changing anything; then it is computed too, and unless both agree to the last bit, the rest is computed. Later
 * steps are run from the recording until shapes, model or parameters are others, or the engine needs the memory.
 */
export class RecordedSteps {
  private kind: Kind | null = null;
  private work: RecordedWork | null = null;
  /** Whether steps of this kind are computed. */
  private isComputed = false;

  constructor(private readonly optimizer: TrainingOptimizer) {}

  /** Does the step. @param compute computes it, and leaves nothing on the engine */
  run(request: StepRequest, compute: () => StepOutcome): StepOutcome {
    const { optimizer } = this;
    const recorder = stepRecorder();
    const { positions, weights, rows, length } = request.batch;
    const isWhole = positions === null && weights === null;
    const fits = optimizer instanceof Optimizer && isWhole && rows * length <= MOST_TOKENS;
    if (!fits || recorder?.recordWork === undefined) return compute();
    if (this.kind === null || !isSame(this.kind, request)) {
      this.dispose();
      this.kind = kindOf(request);
      return compute();
    }
    if (this.work?.isDisposed === true) this.refuse(TOO_LARGE);
    if (this.isComputed) return compute();
    if (this.work === null) return this.record(recorder, optimizer, request, compute);
    return replay(this.work, request.batch, optimizer.ruleOf(request.step, request.learningRate));
  }

  dispose(): void {
    this.work?.dispose();
    this.work = null;
    this.kind = null;
    this.isComputed = false;
  }

  private record(
    recorder: StepRecorder,
    optimizer: Optimizer,
    request: StepRequest,
    compute: () => StepOutcome,
  ): StepOutcome {
    let [work, found]: [RecordedWork | null, StepOutcome | null] = [null, null];
    try {
      work = recordedStep(recorder, optimizer, request);
      found = replay(work, request.batch, IDLE_RULE);
    } catch (error) {
      work?.dispose();
      this.refuse(isMemoryError(error) ? TOO_LARGE : error instanceof Error ? error.message : String(error));
      return compute();
    }
    this.work = work;
    let computed: StepOutcome | null = null;
    // In the same memory: the step takes no more of it than it did.
    const isFree = work.within(() => {
      computed = compute();
    });
    const outcome = computed as unknown as StepOutcome;
    if (work.isDisposed) this.refuse(TOO_LARGE);
    else if (!isFree) this.refuse('a training step leaves tensors behind');
    else if (!areEqual(found, outcome)) this.refuse('the recorded training step and the computed one differ');
    return outcome;
  }

  /** Computes steps of this kind from now on. */
  private refuse(reason: string): void {
    this.work?.dispose();
    this.work = null;
    this.isComputed = true;
    refuseRecorder(reason);
  }
}

function areEqual(a: StepOutcome, b: StepOutcome): boolean {
  const kinds = Object.keys(a.losses) as (keyof LossSums)[];
  return Object.is(a.norm, b.norm) && kinds.every((kind) => Object.is(a.losses[kind], b.losses[kind]));
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
