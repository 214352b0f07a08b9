/** `trainModel`: a recipe, a configuration and a directory in; a checkpoint, a log and what came of it out. */
import { join } from 'node:path';
import { checkVocabulary, describeOrigins, loadTokenizer } from '../data/tokenizer.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { Engine } from '../engines/engine.js';
import type { OpenCheckpoint } from '../checkpoint/open.js';
import { loadParameters } from '../checkpoint/load.js';
import type { ModelMeta } from '../checkpoint/load.js';
import { createModel } from '../model/index.js';
import type { ModelConfig } from '../model/config.js';
import type { LanguageModel } from '../model/language-model.js';
import type { Json } from '../results/canonical.js';
import { toolkitVersion } from '../package-root.js';
import { collectProvenance } from '../results/provenance.js';
import type { Provenance } from '../results/provenance.js';
import type { Row } from '../results/schema.js';
import { ProductRate } from '../sweep/product-rate.js';
import type { RunRecord } from '../sweep/table.js';
import { buildTask } from './build-task.js';
import { SOLO, type Communicator } from '../distributed/communicator.js';
import { lockDirectory } from '../files/lock.js';
import { describeDirectory } from '../hub/cache.js';
import { EventFile } from './event-file.js';
import { NO_LOG, TrainLog, type TrainStep } from './log.js';
import type { Recipe } from './recipe.js';
import { checkTrainingMemory } from './memory.js';
import { rankGrid, type RankGrid } from './rank-share.js';
import { runTraining } from './run-training.js';
import type { LoopResult, TrainProgress } from './run-training.js';
import { Snapshots } from './snapshots.js';
import type { TrainingTask } from './task.js';

export interface TrainOptions {
  /** Where log and checkpoints go: `runs/NAME`. */
  readonly directory: string;
  readonly config: ModelConfig;
  readonly recipe: Recipe;
  readonly engine: Engine;
  /** The other ranks of the run, each on an engine of its own; default: none. Rank 0 writes. */
  readonly communicator?: Communicator;
  /** Neighbouring ranks that divide each sequence between them; default 1: none does. */
  readonly contextParallel?: number;
  /** Weights to begin with, and their hash; without them they are drawn from the recipe's seed. */
  readonly initial?: { readonly checkpoint: OpenCheckpoint; readonly sha256: string };
  /** Resume where an earlier run in the directory stopped (default true); false starts over and removes it. */
  readonly resume?: boolean;
  /** Measure the rate of matmuls first, and give the share of it that every step reaches. */
  readonly mfu?: boolean;
  /** Also write event files for TensorBoard, in `tensorboard/` of the directory. */
  readonly tensorboard?: boolean;
  readonly record?: RunRecord;
  /** Once aborted, the step at work is finished, a snapshot written, and the run left. */
  readonly signal?: AbortSignal;
  /** Called when the data are read and the first step begins: from here on `signal` is heeded. */
  readonly onBegin?: () => void;
  readonly onProgress?: (progress: TrainProgress) => void;
  /** What only a person who asks for it wants to read. */
  readonly detail?: (line: string) => void;
}

export interface TrainResult extends LoopResult {
  readonly directory: string;
  readonly steps: readonly TrainStep[];
  /** The same as rows of `TRAIN_SCHEMA`. */
  readonly rows: readonly Row[];
  /** The CSV files. */
  readonly files: readonly string[];
}

/**
 * Trains a model, or resumes its training. The same options on the same engine give the same train.csv and the same
 * weights, however often the run is left, killed included, and taken up again.
 * @throws UsageError for data or a tokenizer that do not fit, or another run's directory
 * @throws RunError where another process trains in the directory, memory does not suffice, training diverges, or files cannot be read or written
 */
export async function trainModel(options: TrainOptions): Promise<TrainResult> {
  const { config, recipe } = options;
  const tokenizer = await loadTokenizer(recipe.tokenizer);
  checkVocabulary(tokenizer, config.vocabSize);
  for (const line of describeOrigins(tokenizer)) options.detail?.(line);
  checkTrainingMemory(config, recipe, options.engine, options.communicator?.size);
  const task = await buildTask(recipe, tokenizer);
  try {
    // One lock for all ranks, which rank 0 holds.
    const isFirst = (options.communicator ?? SOLO).rank === 0;
    const unlock = isFirst
      ? lockDirectory(options.directory, 'train', { doing: 'training' })
      : () => undefined;
    try {
      return await trainLocked(task, tokenizer, options);
    } finally {
      unlock();
    }
  } finally {
    task.dispose();
  }
}

async function trainLocked(
  task: TrainingTask,
  tokenizer: Tokenizer,
  options: TrainOptions,
): Promise<TrainResult> {
  const { config, recipe, initial, communicator = SOLO, contextParallel } = options;
  const grid = rankGrid(communicator, contextParallel);
  const model = createModel(config, {
    compute: null,
    ranks: grid.sequence,
    seed: recipe.seed,
    weights: initial ? 'zeros' : 'random',
    initialValues: recipe.initialValues,
  });
  try {
    if (initial !== undefined) loadParameters(model, initial.checkpoint.tensors);
    return await trainOn(model, grid, task, tokenizer, options);
  } finally {
    model.dispose();
  }
}

async function trainOn(
  model: LanguageModel,
  grid: RankGrid,
  task: TrainingTask,
  tokenizer: Tokenizer,
  options: TrainOptions,
): Promise<TrainResult> {
  const { directory, recipe, engine, signal, onBegin, onProgress, resume = true } = options;
  const isFirst = grid.world.rank === 0;
  const settings = settingsOf(options, task);
  const provenance = provenanceOf(options, task);
  const snapshots = new Snapshots(directory, settings);
  if (isFirst) {
    if (!resume) snapshots.clear();
    // Another run's log must not be touched: its snapshots are looked at first.
    snapshots.list();
  }
  const log = isFirst
    ? TrainLog.open(directory, {
        ...{ settings, provenance, resume },
        heldOut: task.sources.map(({ name }) => name),
        sources: task.progress().map(({ source }) => source),
        events: options.tensorboard ? new EventFile(join(directory, 'tensorboard')) : null,
      })
    : NO_LOG;
  const meta = metaOf(options, tokenizer, provenance);
  try {
    const matmulFlops = options.mfu ? await (await ProductRate.choose(engine)).measure() : null;
    if (matmulFlops !== null) {
      options.detail?.(`matmuls reach ${(matmulFlops / 1e12).toPrecision(3)} TFLOP/s`);
    }
    const result = await runTraining({
      model,
      matmulFlops,
      task,
      recipe,
      engine,
      grid,
      log,
      snapshots,
      meta,
      signal,
      onBegin,
      onProgress,
    });
    return { ...result, directory, steps: log.steps, rows: log.rows, files: log.files };
  } finally {
    log.close();
  }
}

/** Everything that determines rows and weights. */
function settingsOf(
  { config, recipe, engine, initial }: TrainOptions,
  task: TrainingTask,
): Record<string, Json> {
  const { learningRate, minLearningRate, warmup, decay, weightDecay, beta1, beta2, epsilon } = recipe;
  return {
    version: toolkitVersion(),
    engine: engine.name,
    storage: engine.storage,
    model: { ...config },
    weights: initial === undefined ? startingWeights(recipe) : initial.sha256,
    data: task.identity,
    optimizer: {
      ...{ learningRate, minLearningRate, warmup, decay, weightDecay, beta1, beta2, epsilon },
      clip: recipe.clip,
      accumulate: recipe.accumulate,
    },
    evalEvery: recipe.evalEvery,
    ...stageSettings(recipe),
  };
}

/** What stages change beside their sequences; nothing where they change nothing. */
function stageSettings({ stages }: Recipe): Record<string, Json> {
  const changes = stages.map(({ ropeTheta, learningRate, minLearningRate, warmup, decay }): Json => {
    const given = { ropeTheta, learningRate, minLearningRate, warmup, decay };
    return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  });
  return changes.every((change) => Object.keys(change as object).length === 0) ? {} : { stages: changes };
}

/** The official values go without saying, as they did before there were others. */
function startingWeights({ seed, initialValues }: Recipe): Json {
  return initialValues === 'official' ? { seed } : { seed, initialValues };
}

function provenanceOf(options: TrainOptions, task: TrainingTask): Provenance {
  const { record = { command: [], flags: {} }, engine, config, recipe, initial, communicator } = options;
  return collectProvenance({
    ...record,
    communicator,
    engine,
    configuration: {
      model: { ...config },
      recipe: { ...recipe, stages: recipe.stages.map((stage) => ({ ...stage })) },
    },
    inputs: {
      ...task.inputs,
      ...(initial === undefined ? {} : { [describeDirectory(initial.checkpoint.directory)]: initial.sha256 }),
    },
  });
}

/** What the checkpoint tells whoever finds it. */
function metaOf(
  { recipe, initial }: TrainOptions,
  tokenizer: Tokenizer,
  { command, versions, git, engine, inputs }: Provenance,
): ModelMeta {
  return {
    tokenizer: tokenizer.name,
    context: initial?.checkpoint.context ?? null,
    provenance: {
      command,
      seed: recipe.seed,
      version: versions.yoco ?? null,
      commit: git?.commit ?? null,
      engine,
      inputs,
    },
  };
}
