/** The loop: steps, log, held-out loss, snapshots; left and taken up again without a trace in its results. */
import { setImmediate } from 'node:timers/promises';
import { RunError } from '../errors.js';
import type { Engine } from '../engines/engine.js';
import type { ModelMeta } from '../checkpoint/load.js';
import type { LanguageModel } from '../model/language-model.js';
import * as tf from '../tf.js';
import type { TrainLog, TrainStep } from './log.js';
import { Optimizer } from './optimizer.js';
import type { Recipe } from './recipe.js';
import { learningRateAt } from './schedule.js';
import type { Progress, Snapshots } from './snapshots.js';
import { accumulateGradients, meanLosses, measureLosses } from './step.js';
import type { TrainingTask } from './task.js';
import { stageOf, totalSteps } from './task.js';

export interface TrainProgress {
  readonly step: TrainStep;
  /** Steps of the whole run. */
  readonly steps: number;
}

export interface LoopOptions {
  readonly model: LanguageModel;
  readonly task: TrainingTask;
  readonly recipe: Recipe;
  readonly engine: Pick<Engine, 'synchronize'>;
  readonly log: TrainLog;
  readonly snapshots: Snapshots;
  readonly meta: ModelMeta;
  /** Once aborted, the step at work is finished, a snapshot written, and the run left. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TrainProgress) => void;
}

export interface LoopResult {
  readonly status: 'finished' | 'interrupted';
  readonly step: number;
  readonly tokens: number;
  /** Directory of the newest snapshot. */
  readonly checkpoint: string;
}

export async function runTraining(options: LoopOptions): Promise<LoopResult> {
  const optimizer = new Optimizer(options.model.parameters, options.recipe);
  try {
    return await new Loop(options, optimizer).run();
  } finally {
    optimizer.dispose();
  }
}

class Loop {
  private readonly steps: number;
  private step = 0;
  private tokens = 0;
  private checkpoint = '';

  constructor(
    private readonly options: LoopOptions,
    private readonly optimizer: Optimizer,
  ) {
    this.steps = totalSteps(options.task.stages);
  }

  async run(): Promise<LoopResult> {
    this.resume();
    const { signal, recipe } = this.options;
    while (this.step < this.steps) {
      this.step += 1;
      const step = await this.advance();
      this.options.log.append(step);
      const stopping = signal?.aborted === true;
      const due = recipe.checkpointEvery > 0 && this.step % recipe.checkpointEvery === 0;
      if (due || stopping || this.step === this.steps) await this.save();
      this.options.onProgress?.({ step, steps: this.steps });
      if (stopping && this.step < this.steps) return this.result('interrupted');
      // Signals and timers get their turn: a step blocks the event loop.
      await setImmediate();
    }
    return this.result('finished');
  }

  private result(status: LoopResult['status']): LoopResult {
    return { status, step: this.step, tokens: this.tokens, checkpoint: this.checkpoint };
  }

  /** Goes to the newest snapshot whose log is complete (a crash of the machine may have lost the end of it). */
  private resume(): void {
    const { snapshots, model, log, task } = this.options;
    snapshots.clean();
    const directories = snapshots.list();
    const directory = directories.find((candidate) => log.restore(snapshots.progress(candidate).step));
    if (directory === undefined) {
      if (directories.length === 0) return;
      throw new RunError(`the log beside ${directories.join(', ')} lacks rows: start over with --no-resume`);
    }
    const progress = snapshots.progress(directory);
    snapshots.load(directory, { model, optimizer: this.optimizer });
    snapshots.restoreData(directory, (state) => {
      task.restore(state);
    });
    this.step = progress.step;
    this.tokens = progress.tokens;
    this.checkpoint = directory;
  }

  private async save(): Promise<void> {
    const { snapshots, model, task, meta } = this.options;
    const progress: Progress = { step: this.step, tokens: this.tokens, task: task.state() };
    this.checkpoint = await snapshots.write(progress, { model, optimizer: this.optimizer }, meta);
  }

  /** One step of the optimizer, and the held-out loss where it is due. */
  private async advance(): Promise<TrainStep> {
    const { model, task, recipe, engine } = this.options;
    const began = performance.now();
    const stage = stageOf(task.stages, this.step);
    const batches = Array.from({ length: recipe.accumulate }, () => task.next(stage));
    const { gradients, losses } = accumulateGradients(model, batches, recipe.recompute);
    const learningRate = learningRateAt(this.step, { ...recipe, steps: this.steps });
    const norm = this.optimizer.apply(gradients, this.step, learningRate);
    tf.dispose([...gradients.values()]);
    if (!Number.isFinite(norm)) throw this.divergence();
    await engine.synchronize();
    const seconds = (performance.now() - began) / 1000;
    const seen = batches.reduce((sum, { rows, length }) => sum + rows * length, 0);
    this.tokens += seen;
    const { text, answer } = meanLosses(losses);
    return {
      step: this.step,
      tokens: this.tokens,
      loss: text,
      answerLoss: answer,
      ...this.heldOut(),
      learningRate,
      gradientNorm: norm,
      seconds,
      tokensPerSecond: seen / seconds,
    };
  }

  private heldOut(): Pick<TrainStep, 'heldOutLoss' | 'heldOutAnswerLoss'> {
    const { model, task, recipe } = this.options;
    const due = recipe.evalEvery > 0 && this.step % recipe.evalEvery === 0;
    if (!due && this.step < this.steps) return { heldOutLoss: null, heldOutAnswerLoss: null };
    const { text, answer } = meanLosses(measureLosses(model, task.heldOut()));
    return { heldOutLoss: text, heldOutAnswerLoss: answer };
  }

  private divergence(): RunError {
    const where = this.checkpoint === '' ? '' : ` (the last snapshot is ${this.checkpoint})`;
    return new RunError(
      `step ${this.step}: the gradient is not a finite number, training has diverged${where}: lower the learning rate (--lr) or warm up for longer (--warmup)`,
    );
  }
}
