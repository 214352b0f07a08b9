/** The loop: steps, log, held-out loss, snapshots; a run that is stopped and resumed has the same results. */
import { setImmediate } from 'node:timers/promises';
import { asYocoError, OutputError, RunError } from '../errors.js';
import type { Engine } from '../engines/engine.js';
import type { ModelMeta } from '../checkpoint/load.js';
import type { LanguageModel } from '../model/language-model.js';
import * as tf from '../tf.js';
import { SOLO } from '../distributed/communicator.js';
import { heldOutCells, type HeldOutCell } from './held-out.js';
import type { StepLog, TrainStep } from './log.js';
import type { SourceCell } from './sources-table.js';
import { Optimizer, type TrainingOptimizer } from './optimizer.js';
import {
  columnsOfRank,
  dealtLosses,
  gatherStep,
  type RankGrid,
  rankGrid,
  requireEvenShares,
  rowsOfGroup,
} from './rank-share.js';
import type { Recipe } from './recipe.js';
import { stageLearningRate, stageTheta } from './stages.js';
import type { Progress, Snapshots } from './snapshots.js';
import { flopsPerToken, StepSize, type FlopsPerToken } from './step-size.js';
import { RecordedSteps, type StepOutcome } from './recorded-steps.js';
import { ShardedOptimizer } from './sharded-optimizer.js';
import { GradientSum, addSums, meanLosses, measureLosses, noLosses } from './step.js';
import type { Batch, TrainingTask } from './task.js';
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
  /** The ranks of the run, which `model` knows too; default: one process. */
  readonly grid?: RankGrid;
  readonly log: StepLog;
  /** Operations per second of matmuls on one rank, where they were measured. */
  readonly matmulFlops?: number | null;
  readonly snapshots: Snapshots;
  /** Of the model at the start; its context grows with the sequences. */
  readonly meta: ModelMeta;
  /** Once aborted, the step at work is finished, a snapshot written, and the run left. */
  readonly signal?: AbortSignal;
  /** Called before the first step: from here on `signal` is heeded. */
  readonly onBegin?: () => void;
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
  const { model, recipe, task, grid = rankGrid(SOLO) } = options;
  requireEvenShares(task.stages, grid);
  const optimizer =
    grid.world.size === 1
      ? new Optimizer(model.parameters, recipe)
      : new ShardedOptimizer(model.parameters, recipe, grid.world);
  const loop = new Loop({ ...options, grid }, optimizer);
  try {
    return await loop.run();
  } finally {
    loop.dispose();
    optimizer.dispose();
  }
}

interface Advance {
  readonly step: TrainStep;
  /** Text by text, where the loss was measured after this step. */
  readonly heldOut: readonly HeldOutCell[];
  /** How far each source is, after the same steps. */
  readonly sources: readonly SourceCell[];
  readonly stopping: boolean;
}

interface HeldOutLosses {
  readonly text: number | null;
  readonly answer: number | null;
  readonly cells: readonly HeldOutCell[];
}

class Loop {
  private readonly steps: number;
  private step = 0;
  private tokens = 0;
  private checkpoint = '';
  /** Of the present stage: on the parameters of the model that was given, with the θ of the stage. */
  private model: LanguageModel;
  private flopsPerToken: FlopsPerToken;
  private readonly recorded: RecordedSteps;

  constructor(
    private readonly options: LoopOptions & { readonly grid: RankGrid },
    private readonly optimizer: TrainingOptimizer,
  ) {
    this.steps = totalSteps(options.task.stages);
    this.model = options.model;
    this.flopsPerToken = flopsPerToken(options.model.config);
    this.recorded = new RecordedSteps(optimizer);
  }

  dispose(): void {
    this.recorded.dispose();
  }

  async run(): Promise<LoopResult> {
    this.resume();
    const { recipe, onBegin } = this.options;
    onBegin?.();
    while (this.step < this.steps) {
      this.step += 1;
      this.enter(stageOf(this.options.task.stages, this.step));
      const { step, heldOut, sources, stopping } = await this.advance();
      this.options.log.append(step, heldOut, sources);
      const due = recipe.checkpointEvery > 0 && this.step % recipe.checkpointEvery === 0;
      if (due || stopping || this.step === this.steps) await this.save();
      this.options.onProgress?.({ step, steps: this.steps });
      if (stopping && this.step < this.steps) return this.result('interrupted');
      // Signals and timers get their turn: a step blocks the event loop.
      await setImmediate();
    }
    return this.result('finished');
  }

  /** Rotates as the stage asks for. */
  private enter(stage: number): void {
    const theta = stageTheta(this.options.recipe.stages, stage);
    if (theta === null || theta === this.model.config.ropeTheta) return;
    this.model = this.options.model.withTheta(theta);
    this.flopsPerToken = flopsPerToken(this.model.config);
  }

  private result(status: LoopResult['status']): LoopResult {
    return { status, step: this.step, tokens: this.tokens, checkpoint: this.checkpoint };
  }

  /** Goes to the newest snapshot whose log is complete (a crash of the machine may have lost the end of it). */
  private resume(): void {
    const { snapshots, model, log, task, grid } = this.options;
    const { world } = grid;
    if (world.rank === 0) snapshots.clean();
    const directories = world.rank === 0 ? snapshots.list() : [];
    const found = directories.find((candidate) => log.restore(snapshots.progress(candidate).step));
    // Rank 0, which has the log, decides for all.
    const directory = world.gather(found ?? null)[0] as string | null;
    if (directory === null) {
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
    const { snapshots, task, grid } = this.options;
    const { world } = grid;
    const { model } = this;
    const meta = this.meta();
    const progress: Progress = { step: this.step, tokens: this.tokens, task: task.state() };
    const moments = this.optimizer.state();
    try {
      if (world.rank === 0) await snapshots.write(progress, { model, moments }, meta);
    } catch (error) {
      const known = asYocoError(error);
      if (known === null || this.checkpoint === '') throw error;
      const saved = `${this.checkpoint} is complete, the same command resumes there`;
      throw new OutputError(`${known.message}; ${saved}`, { cause: error });
    } finally {
      tf.dispose([...moments.values()]);
    }
    world.barrier();
    this.checkpoint = snapshots.pathOf(this.step);
  }

  /** With the longest sequences up to here. */
  private meta(): ModelMeta {
    const { meta, task } = this.options;
    const past = task.stages.slice(0, stageOf(task.stages, this.step) + 1);
    return { ...meta, context: Math.max(meta.context ?? 0, ...past.map(({ length }) => length)) };
  }

  /** One step of the optimizer, and the held-out loss where it is due. */
  private async advance(): Promise<Advance> {
    const { task, recipe, engine, signal, grid, matmulFlops = null } = this.options;
    const began = performance.now();
    const stage = stageOf(task.stages, this.step);
    const learningRate = stageLearningRate(recipe, this.step);
    const { losses, norm, size } = await this.update(stage, learningRate);
    const { tokens, bytes, flops } = size;
    if (!Number.isFinite(norm)) throw this.divergence();
    await engine.synchronize();
    const seconds = (performance.now() - began) / 1000;
    this.tokens += tokens;
    const all = gatherStep(grid.world, losses, signal?.aborted === true);
    const { text, answer } = meanLosses(all.losses);
    const heldOut = await this.heldOut();
    const progress = task.progress();
    const step = {
      step: this.step,
      tokens: this.tokens,
      loss: text,
      bitsPerByte: bytes === null || text === null ? null : all.losses.text / Math.LN2 / bytes,
      answerLoss: answer,
      heldOutLoss: heldOut.text,
      heldOutAnswerLoss: heldOut.answer,
      learningRate,
      gradientNorm: norm,
      epochs: progress.length === 0 ? null : Math.max(...progress.map(({ epochs }) => epochs)),
      seconds,
      tokensPerSecond: tokens / seconds,
      flopsPerSecond: flops / seconds,
      mfu: matmulFlops === null ? null : flops / seconds / (matmulFlops * grid.world.size),
    };
    const sources = this.isMeasured() ? progress.map((source) => ({ step: this.step, ...source })) : [];
    return { step, heldOut: heldOut.cells, sources, stopping: all.stopping };
  }

  /** The update, on the micro-batches of a step: from a recording, or computed. */
  private async update(stage: number, learningRate: number): Promise<StepOutcome & { size: StepSize }> {
    const { grid, recipe } = this.options;
    const { accumulate, recompute } = recipe;
    const { model, step } = this;
    const size = new StepSize(this.flopsPerToken);
    // Ranks that divide sequences hand gradients to each other in between, in an order of their own.
    const take = grid.sequence.size === 1 ? this.optimizer.take : undefined;
    const sum = new GradientSum(model, { batches: accumulate, recompute, ranks: grid.world.size, take });
    const apply = (batch: Batch): StepOutcome => {
      sum.add(batch);
      const norm = this.optimizer.apply(sum.gradients, step, learningRate);
      tf.dispose([...sum.gradients.values()]);
      return { losses: sum.readLosses(), norm };
    };
    for (let left = accumulate - 1; left > 0; left--) {
      sum.add(this.next(stage, size));
      // A second Ctrl-C ends the process, also in a step of many micro-batches.
      await setImmediate();
    }
    const batch = this.next(stage, size);
    if (accumulate > 1) return { ...apply(batch), size };
    const request = { model, batch, recompute, step, learningRate };
    return { ...this.recorded.run(request, () => apply(batch)), size };
  }

  /** This rank's share of the next micro-batch, which is counted. */
  private next(stage: number, size: StepSize): Batch {
    const { task, grid } = this.options;
    const batch = task.next(stage);
    size.add(batch);
    return columnsOfRank(rowsOfGroup(batch, grid), grid.sequence, this.model);
  }

  /** Whether held-out loss is due after this step. */
  private isMeasured(): boolean {
    const { evalEvery } = this.options.recipe;
    return this.step === this.steps || (evalEvery > 0 && this.step % evalEvery === 0);
  }

  /** Mean losses of all held-out batches, and those of each text; nothing where it is not due. */
  private async heldOut(): Promise<HeldOutLosses> {
    const { task, grid } = this.options;
    if (!this.isMeasured()) return { text: null, answer: null, cells: [] };
    const batches = [...task.heldOut()];
    const measured = await dealtLosses(grid, this.model, batches, async (batch) => {
      await setImmediate();
      return measureLosses(this.model, batch);
    });
    const all = noLosses();
    for (const sums of measured) addSums(all, sums);
    const named = measured.map((sums, i) => ({ ...sums, source: batches[i]?.source ?? 0 }));
    return { ...meanLosses(all), cells: heldOutCells(this.step, task.sources, named) };
  }

  private divergence(): RunError {
    const where = this.checkpoint === '' ? '' : ` (the last snapshot is ${this.checkpoint})`;
    return new RunError(
      `step ${this.step}: the gradient is not a finite number, training has diverged${where}: lower the learning rate (--lr) or warm up for longer (--warmup)`,
    );
  }
}
