/** Training steps on batches that differ, as `yoco train` does them. */
import { createConfig, type LanguageModel } from '../../../src/model/index.js';
import * as tf from '../../../src/tf.js';
import { Optimizer } from '../../../src/training/optimizer.js';
import { RecordedSteps, type StepOutcome } from '../../../src/training/recorded-steps.js';
import { GradientSum } from '../../../src/training/step.js';
import { windowBatch, type Batch } from '../../../src/training/task.js';
import { CONFIGS, SHAPE } from './stand-in-models.js';

export const MODELS = {
  ...CONFIGS,
  'gated delta rule': createConfig({ ...SHAPE, selfDecoder: 'gated-delta-net', selfHeads: 2 }),
};
export const NAMES = Object.keys(MODELS) as (keyof typeof MODELS)[];
export const [ROWS, LENGTH] = [2, 70];

export const OPTIONS = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, clip: 1 };

export class Training {
  readonly optimizer: Optimizer;
  readonly recorded: RecordedSteps;
  step = 0;
  /** Steps that were computed. */
  computed = 0;

  constructor(
    private readonly model: LanguageModel,
    private readonly recompute = false,
  ) {
    this.optimizer = new Optimizer(model.parameters, OPTIONS);
    this.recorded = new RecordedSteps(this.optimizer);
  }

  /** That of the step that is next. */
  batch(rows: number, length: number): Batch {
    const { vocabSize } = this.model.config;
    const windows = Int32Array.from(
      { length: rows * (length + 1) },
      (_, i) => (i * i + 7 * this.step) % vocabSize,
    );
    return windowBatch(windows, rows);
  }

  learningRate(step = this.step): number {
    return 1e-3 / step;
  }

  /** @param isRecorded whether it may be run from a recording */
  run(rows: number, length: number, isRecorded = true): StepOutcome {
    this.step += 1;
    const { model, recompute, step } = this;
    const batch = this.batch(rows, length);
    const learningRate = this.learningRate();
    const compute = (): StepOutcome => {
      this.computed += 1;
      const sum = new GradientSum(model, { batches: 1, recompute });
      sum.add(batch);
      const norm = this.optimizer.apply(sum.gradients, step, learningRate);
      tf.dispose([...sum.gradients.values()]);
      return { losses: sum.readLosses(), norm };
    };
    if (!isRecorded) return compute();
    return this.recorded.run({ model, batch, recompute, step, learningRate }, compute);
  }

  dispose(): void {
    this.recorded.dispose();
    this.optimizer.dispose();
  }
}
