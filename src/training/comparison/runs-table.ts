/** One row for each training run and each text it was measured on. */
import { costs } from '../../model/costs.js';
import { architectureName, layoutWords, selfDecoderOf } from '../../model/config.js';
import { formatLayout } from '../../model/layout-grammar.js';
import { RunError } from '../../errors.js';
import { hashOf, type Json } from '../../results/canonical.js';
import type { Column } from '../../results/schema.js';
import type { TableSchema } from '../../results/typed.js';
import { median } from '../../sweep/statistics.js';
import type { HeldOutSource, TrainingRun } from './read-run.js';
import { variantOf } from './variant.js';

/** The name of all texts of a run together. */
export const ALL_SOURCES = 'all';

export interface RunKey {
  /** Directory of the run. */
  readonly run: string;
  /** Held-out text; null in the row of a run that cannot be read. */
  readonly source: string | null;
}

/** What must be equal for losses to compare. */
export interface Setting {
  /** Short hash of the texts read and the tokenizer. */
  readonly data: string;
  /** Tokens per sequence, of the last stage. */
  readonly length: number;
  readonly tokens: number;
}

export interface ModelFigures {
  readonly variant: string;
  /** Layers x width, `8x256`: what models of one size share. */
  readonly size: string;
  readonly parameters: number;
  readonly nonEmbeddingParameters: number;
  readonly trainFlops: number;
}

export interface RecipeFigures {
  /** Short hash of everything else that determines a run but its seed. */
  readonly recipe: string;
  readonly learningRate: number;
  readonly initialValues: string;
  readonly weightDecay: number;
  /** Tokens per optimizer step, in the last stage. */
  readonly batchTokens: number;
}

export interface Losses {
  readonly loss: number;
  readonly arHitLoss: number | null;
  readonly firstOccurLoss: number | null;
  readonly bitsPerByte: number;
}

export interface RunFigures extends Setting, ModelFigures, RecipeFigures, Losses {
  readonly model: string | null;
  readonly architecture: string;
  readonly selfDecoder: string | null;
  readonly layout: string;
  readonly seed: number;
  readonly targets: number;
  readonly arHitShare: number;
  /** Median over the steps; null without timings. */
  readonly tokensPerSecond: number | null;
  /** Of all steps, without held-out losses. */
  readonly seconds: number | null;
  readonly flopsPerSecond: number | null;
  /** flopsPerSecond over the measured rate of matrix products; null where none is given. */
  readonly mfu: number | null;
}

export type RunRow = RunKey & { readonly source: string } & RunFigures;

const column = <Name extends string>(
  name: Name,
  description: string,
  options: Partial<Column> = {},
): Column<Name> => ({ kind: 'result', ...options, name, description });

export const SETTING_COLUMNS = [
  column('data', 'hash of the texts read and the tokenizer'),
  column('length', 'tokens per sequence, in the last stage', { display: 'count' }),
  column('tokens', 'tokens trained on', { display: 'count' }),
] as const;

export const MODEL_FIGURE_COLUMNS = [
  column('variant', 'layout, mixer of the self-decoder, and self- to cross-decoder where not 1:1'),
  column('size', 'layers x width'),
  column('parameters', 'all', { display: 'count' }),
  column('non_embedding_parameters', 'without token embedding and output head', { display: 'count' }),
  column('train_flops', 'operations of the training, by formula'),
] as const;

export const RECIPE_COLUMNS = [
  column('recipe', 'hash of all settings but the seed'),
  column('learning_rate', 'peak'),
  column('initial_values', 'how weights start'),
  column('weight_decay', 'of matrices'),
  column('batch_tokens', 'tokens per optimizer step', { display: 'count' }),
] as const;

/** Differences are in the digits that a table would leave out. */
const LOSS = { digits: 6, better: 'lower', display: 'plain' } as const;

export const LOSS_COLUMNS = [
  column('loss', 'nats per target', LOSS),
  column('ar_hit_loss', 'of targets that complete a bigram which their context has shown before', LOSS),
  column('first_occur_loss', 'of all other targets', LOSS),
  column('bits_per_byte', 'of UTF-8 text, which compares over tokenizers', LOSS),
] as const;

export const RUNS_SCHEMA: TableSchema<RunKey, RunFigures> = {
  name: 'runs',
  columns: [
    column('run', 'directory of the run', { kind: 'key' }),
    column('source', `held-out text; ${ALL_SOURCES}: all of them together`, { kind: 'key' }),
    column('model', 'preset, or name of the configuration or checkpoint'),
    ...MODEL_FIGURE_COLUMNS,
    column('architecture', 'name of the layout, or its parts where it has none'),
    column('self_decoder', 'mixer of the self-decoder, where the layout leaves it open'),
    column('layout', 'parts of the model'),
    ...SETTING_COLUMNS,
    ...RECIPE_COLUMNS,
    column('seed', 'of all randomness'),
    column('targets', 'predicted tokens', { display: 'count' }),
    ...LOSS_COLUMNS,
    column('ar_hit_share', 'share of targets that complete such a bigram', { digits: 6 }),
    column('tokens_per_second', 'median over the steps', { kind: 'timing', digits: 1, better: 'higher' }),
    column('seconds', 'of all steps, without held-out losses', {
      ...{ kind: 'timing', digits: 3, display: 'seconds' },
    }),
    column('flops_per_second', 'train_flops over seconds', { kind: 'timing', digits: 0 }),
    column('mfu', 'flops_per_second over the measured rate of matrix products', {
      ...{ kind: 'timing', digits: 4, display: 'percent', better: 'higher' },
    }),
  ],
};

/**
 * The rows of a run: one for each text, and one for all together where there are several.
 * @param matmulFlops measured operations per second of large matrix products
 * @throws RunError where the record of the run contradicts itself
 */
export function runRows(run: TrainingRun, matmulFlops: number | null): RunRow[] {
  const common = {
    run: run.name,
    model: run.model,
    ...modelFigures(run),
    architecture: architectureName(run.config),
    selfDecoder: selfDecoderOf(run.config),
    layout: formatLayout(layoutWords(run.config)),
    ...settingOf(run),
    ...recipeFigures(run),
    seed: run.recipe.seed,
  };
  const speed = timings(run, common.trainFlops, matmulFlops);
  return [...run.heldOut, ...together(run.heldOut)].map((source) => ({ ...common, ...source, ...speed }));
}

const shortHash = (value: Json): string => hashOf(value).slice(0, 8);

function settingOf({ inputs, tokenizer, recipe, tokens }: TrainingRun): Setting {
  const { evalTokens, stages } = recipe;
  // Files may lie elsewhere on another machine: texts are known by their content.
  const data = shortHash({ inputs: [...inputs].sort(), tokenizer, evalTokens });
  return { data, length: stages.at(-1)?.length ?? 0, tokens };
}

function modelFigures({ name, config, recipe, tokens }: TrainingRun): ModelFigures {
  const cost = costs(config);
  const parts = recipe.stages.map(({ steps, batch, length }) => {
    const seen = steps * batch * recipe.accumulate * length;
    return { seen, flops: seen * cost.trainFlopsPerToken(length) };
  });
  const planned = parts.reduce((sum, { seen }) => sum + seen, 0);
  // Sequences of single documents have padding, which is not counted.
  const padded = recipe.stages.some(({ documents }) => documents === 'apart');
  if (padded ? tokens > planned : planned !== tokens) {
    throw new RunError(`${name}: train.csv has ${tokens} tokens, but its recipe comes to ${planned}`);
  }
  const parameters = cost.parameters();
  return {
    variant: variantOf(config),
    size: `${config.layers}x${config.dim}`,
    parameters,
    nonEmbeddingParameters: parameters - cost.embeddingParameters,
    trainFlops: parts.reduce((sum, { flops }) => sum + flops, 0) * (tokens / planned),
  };
}

function recipeFigures({ recipe, storage }: TrainingRun): RecipeFigures {
  const { learningRate, initialValues, weightDecay, accumulate, stages } = recipe;
  const { minLearningRate, warmup, decay, beta1, beta2, epsilon, clip } = recipe;
  const last = stages.at(-1);
  return {
    recipe: shortHash({
      ...{ learningRate, minLearningRate, warmup, decay, weightDecay, beta1, beta2, epsilon, clip },
      ...{ initialValues, storage, task: recipe.task },
      stages: stages.map((stage) => ({ ...stage, batch: stage.batch * accumulate })),
    }),
    ...{ learningRate, initialValues, weightDecay },
    batchTokens: (last?.batch ?? 0) * accumulate * (last?.length ?? 0),
  };
}

/** All texts as one; nothing where there is one. */
function together(sources: readonly HeldOutSource[]): HeldOutSource[] {
  if (sources.length < 2) return [];
  if (sources.some(({ source }) => source === ALL_SOURCES)) {
    throw new RunError(`a held-out text is called '${ALL_SOURCES}', which means all texts: rename it`);
  }
  const sum = (of: (source: HeldOutSource) => number): number =>
    sources.reduce((total, source) => total + of(source), 0);
  const targets = sum((source) => source.targets);
  const hits = sum((source) => source.arHitShare * source.targets);
  const nats = sum((source) => source.loss * source.targets);
  const hitNats = sum(
    ({ arHitLoss, arHitShare, ...source }) => (arHitLoss ?? 0) * arHitShare * source.targets,
  );
  const bytes = sum((source) => (source.loss * source.targets) / source.bitsPerByte / Math.LN2);
  const firsts = targets - hits;
  return [
    {
      source: ALL_SOURCES,
      targets,
      loss: nats / targets,
      arHitLoss: hits > 0 ? hitNats / hits : null,
      // Shares are rounded in files: less than half a target is none.
      firstOccurLoss: firsts > 0.5 ? (nats - hitNats) / firsts : null,
      arHitShare: hits / targets,
      bitsPerByte: nats / Math.LN2 / bytes,
    },
  ];
}

function timings(
  run: TrainingRun,
  flops: number,
  matmulFlops: number | null,
): Pick<RunFigures, 'tokensPerSecond' | 'seconds' | 'flopsPerSecond' | 'mfu'> {
  if (run.timings.length === 0) {
    return { tokensPerSecond: null, seconds: null, flopsPerSecond: null, mfu: null };
  }
  const seconds = run.timings.reduce((sum, step) => sum + step.seconds, 0);
  const flopsPerSecond = flops / seconds;
  return {
    tokensPerSecond: median(run.timings.map(({ tokensPerSecond }) => tokensPerSecond)),
    seconds,
    flopsPerSecond,
    mfu: matmulFlops === null ? null : flopsPerSecond / matmulFlops,
  };
}
