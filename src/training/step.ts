/** One step's arithmetic: losses and gradients of batches. */
import { valueAndGradients } from '../model/index.js';
import type { GradientSink, LanguageModel, LossOptions, Objective } from '../model/index.js';
import * as tf from '../tf.js';
import type { Batch } from './task.js';

/** Sums over targets, from which means are taken. */
export interface LossSums {
  text: number;
  textTargets: number;
  answer: number;
  answerTargets: number;
  /** Of running text: targets that complete a bigram which their context has shown before. */
  repeated: number;
  repeatedTargets: number;
}

export const noLosses = (): LossSums => ({
  ...{ text: 0, textTargets: 0, answer: 0, answerTargets: 0 },
  ...{ repeated: 0, repeatedTargets: 0 },
});

/** Mean loss in nats per target; null where there was none of the kind. */
export function meanLosses(sums: LossSums): { text: number | null; answer: number | null } {
  return {
    text: sums.textTargets === 0 ? null : sums.text / sums.textTargets,
    answer: sums.answerTargets === 0 ? null : sums.answer / sums.answerTargets,
  };
}

/** Adds sums to sums. */
export function addSums(to: LossSums, sums: Readonly<LossSums>): void {
  for (const key of Object.keys(to) as (keyof LossSums)[]) to[key] += sums[key];
}

export function addLosses(
  sums: LossSums,
  losses: ArrayLike<number>,
  { answers, weights, repeated }: Batch,
): void {
  if (answers === null && weights === null && repeated === undefined) {
    // As most steps of training are: the device waits meanwhile.
    let total = 0;
    for (let index = 0; index < losses.length; index++) total += losses[index] ?? 0;
    sums.text += total;
    sums.textTargets += losses.length;
    return;
  }
  for (let index = 0; index < losses.length; index++) {
    const loss = losses[index] ?? 0;
    if (answers?.[index] === 1) {
      sums.answer += loss;
      sums.answerTargets += 1;
    } else if (weights?.[index] !== 0) {
      // A weight of 0 marks a filler position, which only evens out the rows.
      sums.text += loss;
      sums.textTargets += 1;
      if (repeated?.[index] === 1) {
        sums.repeated += loss;
        sums.repeatedTargets += 1;
      }
    }
  }
}

/** The arguments of a model's `loss`. */
function lossInputs(batch: Batch, recompute: boolean): [tf.Tensor2D, tf.Tensor2D, LossOptions] {
  const { rows, length, positions } = batch;
  const tokens = tf.tensor2d(batch.tokens, [rows, length], 'int32');
  const targets = tf.tensor2d(batch.targets, [rows, batch.targets.length / rows], 'int32');
  return [tokens, targets, { ...(positions === null ? {} : { positions }), recompute }];
}

/** What is minimised: the weighted sum of the losses, or their mean. */
function objective(model: LanguageModel, batch: Batch, recompute: boolean): Objective {
  const [tokens, targets, options] = lossInputs(batch, recompute);
  const weights = batch.weights === null ? null : tf.tensor2d(batch.weights, targets.shape);
  return model.objective(tokens, targets, weights, options);
}

/**
 * Gradients of an objective times `share`, by parameter name, and its losses; the caller disposes them.
 * @param take as of `valueAndGradients`
 */
export function objectiveGradients(
  model: LanguageModel,
  compute: () => Objective,
  share = 1,
  take?: GradientSink,
): { gradients: ReadonlyMap<string, tf.Tensor>; losses: tf.Tensor } {
  let kept: tf.Tensor | undefined;
  const shared = (): tf.Scalar => {
    const { total, losses } = compute();
    kept = tf.keep(losses.clone());
    return share === 1 ? total : tf.mul<tf.Scalar>(total, share);
  };
  try {
    const { value, gradients } = valueAndGradients(model, shared, take);
    value.dispose();
    return { gradients, losses: kept as tf.Tensor };
  } catch (error) {
    kept?.dispose();
    throw error;
  }
}

export interface SumOptions {
  /** Micro-batches of the step. */
  readonly batches: number;
  readonly recompute?: boolean;
  /** With how many others the rows were divided: the gradients of all ranks add up to the mean. */
  readonly ranks?: number;
  /** Gets the gradients of the last micro-batch, added to the others, while its backward pass goes on; default: `gradients`. */
  readonly take?: GradientSink;
}

/** Mean gradients over the micro-batches of a step, which are added one by one, and their losses. */
export class GradientSum {
  /** By parameter name; the caller disposes them. */
  readonly gradients = new Map<string, tf.Tensor>();
  private readonly sums = noLosses();
  /** Losses that were not read yet, and their batches. */
  private readonly unread: { readonly losses: tf.Tensor; readonly batch: Batch }[] = [];
  /** Micro-batches so far. */
  private added = 0;

  constructor(
    private readonly model: LanguageModel,
    private readonly options: SumOptions,
  ) {}

  add(batch: Batch): void {
    const { batches, recompute = false, ranks = 1, take } = this.options;
    this.added += 1;
    // Weights are of the whole batch already; a mean is of this rank's rows.
    const share = 1 / (batches * (batch.weights === null ? ranks : 1));
    const isLast = this.added === batches;
    const takeSum: GradientSink | undefined =
      isLast && take
        ? (name, gradient) => {
            take(name, this.withEarlier(name, gradient));
          }
        : undefined;
    const compute = (): Objective => objective(this.model, batch, recompute);
    const part = objectiveGradients(this.model, compute, share, takeSum);
    for (const [name, gradient] of part.gradients) this.gradients.set(name, this.withEarlier(name, gradient));
    this.unread.push({ losses: part.losses, batch });
  }

  /** The losses so far, which every sum has to be asked for. It waits for the device: best when the update is queued. */
  readLosses(): LossSums {
    for (const { losses, batch } of this.unread) {
      const own = noLosses();
      addLosses(own, losses.dataSync(), batch);
      addSums(this.sums, own);
      losses.dispose();
    }
    this.unread.length = 0;
    return this.sums;
  }

  /** The gradient and those of earlier micro-batches, which are disposed of. */
  private withEarlier(name: string, gradient: tf.Tensor): tf.Tensor {
    const earlier = this.gradients.get(name);
    if (earlier === undefined) return gradient;
    this.gradients.delete(name);
    // Within the tidy of a backward pass too.
    const sum = tf.keep(tf.add(earlier, gradient));
    tf.dispose([earlier, gradient]);
    return sum;
  }
}

/** Losses of a batch without gradients. */
export function measureLosses(model: LanguageModel, batch: Batch): LossSums {
  const sums = noLosses();
  const losses = tf.tidy(() => model.loss(...lossInputs(batch, false)));
  addLosses(sums, losses.dataSync(), batch);
  losses.dispose();
  return sums;
}
