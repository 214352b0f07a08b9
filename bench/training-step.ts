/** A step of `yoco train` on one batch, again and again. */
import { Random } from '../src/random.js';
import { createModel, type ModelConfig } from '../src/model/index.js';
import { SOLO, type Communicator } from '../src/distributed/communicator.js';
import { RecordedSteps } from '../src/training/recorded-steps.js';
import { Optimizer, type TrainingOptimizer } from '../src/training/optimizer.js';
import { ShardedOptimizer } from '../src/training/sharded-optimizer.js';
import { GradientSum, meanLosses } from '../src/training/step.js';
import type { Batch } from '../src/training/task.js';
import * as tf from '../src/tf.js';

export interface Trainer {
  /** Losses, gradients, clipping and AdamW; the mean loss in nats per token, before. */
  readonly step: () => number;
  readonly dispose: () => void;
}

/** Random text in which every position predicts the next token: with its own as the target it would only have to copy. */
function randomBatch({ vocabSize }: ModelConfig, rows: number, length: number): Batch {
  const random = new Random(1).fork('text');
  const text = Int32Array.from({ length: rows * (length + 1) }, () => random.below(vocabSize));
  const part = (start: number): Int32Array =>
    Int32Array.from({ length: rows * length }, (_, i) => {
      const row = Math.floor(i / length);
      return text[row * (length + 1) + (i % length) + start] ?? 0;
    });
  return { rows, length, tokens: part(0), targets: part(1), positions: null, weights: null, answers: null };
}

export interface TrainerOptions {
  /** The ranks that train together, each on rows of its own; default: none. */
  readonly world?: Communicator;
  /** The ranks that divide sequences; default: none. */
  readonly sequence?: Communicator;
  readonly recompute?: boolean;
}

/**
 * A model of seed 1 and its optimizer.
 * @param length tokens of a sequence on this rank
 */
export function trainer(
  config: ModelConfig,
  rows: number,
  length: number,
  { world = SOLO, sequence = SOLO, recompute = false }: TrainerOptions = {},
): Trainer {
  const model = createModel(config, { seed: 1, weights: 'repeated', ranks: sequence });
  const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, clip: 1 };
  const optimizer: TrainingOptimizer =
    world.size === 1
      ? new Optimizer(model.parameters, options)
      : new ShardedOptimizer(model.parameters, options, world);
  const batch = randomBatch(config, rows, length);
  const recorded = new RecordedSteps(optimizer);
  let steps = 0;
  return {
    step: () => {
      steps += 1;
      const learningRate = 1e-3;
      const request = { model, batch, recompute, step: steps, learningRate };
      const { losses } = recorded.run(request, () => {
        const sum = new GradientSum(model, {
          ...{ batches: 1, recompute, ranks: world.size },
          take: sequence.size === 1 ? optimizer.take : undefined,
        });
        sum.add(batch);
        const norm = optimizer.apply(sum.gradients, steps, learningRate);
        tf.dispose([...sum.gradients.values()]);
        return { losses: sum.readLosses(), norm };
      });
      return meanLosses(losses).text ?? NaN;
    },
    dispose: () => {
      recorded.dispose();
      optimizer.dispose();
      model.dispose();
    },
  };
}
