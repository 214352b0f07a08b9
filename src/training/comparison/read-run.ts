/** Reads what a finished training run left in its directory. */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { RunError, UsageError } from '../../errors.js';
import { checkShape, OBJECT, readJsonAs } from '../../files/json.js';
import { tokenizerInput } from '../../data/tokenizer.js';
import { createConfig, type ModelConfig } from '../../model/config.js';
import { readResultRows } from '../../results/read.js';
import type { HeldOutFigures } from '../held-out.js';
import { createRecipe, type Recipe, type RecipeInput } from '../recipe.js';
import { totalSteps } from '../task.js';
import type { RunPlace } from './find-runs.js';

export interface TrainingRun {
  readonly name: string;
  /** Preset, or base name of the configuration file or checkpoint; null where the record does not say. */
  readonly model: string | null;
  readonly config: ModelConfig;
  readonly recipe: Recipe;
  /** How the engine stored weights and activations: `bfloat16`. */
  readonly storage: string | null;
  /** SHA-256 of the texts read. */
  readonly inputs: readonly string[];
  /** Hash of its file, or its name; of runs whose record has no hash, the path of the file. */
  readonly tokenizer: string;
  readonly tokens: number;
  /** After the last step. */
  readonly heldOut: readonly HeldOutSource[];
  /** Of each step; empty where there are no timings. */
  readonly timings: readonly StepTiming[];
}

export interface HeldOutSource extends HeldOutFigures {
  readonly source: string;
}

export interface StepTiming {
  readonly seconds: number;
  readonly tokensPerSecond: number;
}

const TEXT = v.pipe(v.union([v.string(), v.number(), v.boolean()]), v.transform(String));
const NAME = v.optional(v.union([v.string(), v.array(v.string())]));

const RECORD = v.object({
  flags: v.optional(v.object({ preset: NAME, config: NAME, checkpoint: NAME }), {}),
  engine: v.nullish(v.object({ storage: v.string() })),
  inputs: v.optional(v.record(v.string(), v.string()), {}),
  configuration: v.object({ model: OBJECT, recipe: OBJECT }),
});

const STEPS = v.array(v.object({ step: v.number(), tokens: v.number() }));

const HELD_OUT = v.array(
  v.object({
    step: v.number(),
    source: TEXT,
    targets: v.number(),
    loss: v.number(),
    ar_hit_loss: v.nullable(v.number()),
    first_occur_loss: v.nullable(v.number()),
    ar_hit_share: v.number(),
    bits_per_byte: v.number(),
  }),
);

const TIMINGS = v.array(v.object({ seconds: v.number(), tokens_per_second: v.number() }));

function readTable<T>(path: string, shape: v.GenericSchema<unknown, T>): T {
  if (!existsSync(path)) throw new RunError(`there is no ${basename(path)}`);
  return checkShape(path, readResultRows(path), shape);
}

/** @throws RunError where the run is not finished, or a file is missing or not as a run writes it */
export function readRun({ name, directory }: RunPlace): TrainingRun {
  const file = (base: string): string => join(directory, base);
  const { configuration, flags, engine, inputs } = readJsonAs(file('train.run.json'), RECORD);
  const { model, recipe } = checked(file('train.run.json'), configuration);
  const last = readTable(file('train.csv'), STEPS).at(-1);
  const steps = totalSteps(recipe.stages);
  if (last?.step !== steps) {
    throw new RunError(`not finished: step ${last?.step ?? 0} of ${steps}`);
  }
  const heldOut = readTable(file('held-out.csv'), HELD_OUT).filter(({ step }) => step === steps);
  if (heldOut.length === 0) throw new RunError(`held-out.csv has no losses after step ${steps}`);
  const timings = file('train.timings.csv');
  return {
    name,
    model: modelName(flags),
    config: model,
    recipe,
    storage: engine?.storage ?? null,
    inputs: Object.values(inputs),
    tokenizer: inputs[tokenizerInput(recipe.tokenizer)] ?? recipe.tokenizer,
    tokens: last.tokens,
    heldOut: heldOut.map((row) => ({
      ...{ source: row.source, targets: row.targets, loss: row.loss, bitsPerByte: row.bits_per_byte },
      ...{ arHitLoss: row.ar_hit_loss, firstOccurLoss: row.first_occur_loss, arHitShare: row.ar_hit_share },
    })),
    timings: existsSync(timings)
      ? readTable(timings, TIMINGS).map((row) => ({
          seconds: row.seconds,
          tokensPerSecond: row.tokens_per_second,
        }))
      : [],
  };
}

/** The configuration of a record, checked like that of a command. */
function checked(
  path: string,
  { model, recipe }: v.InferOutput<typeof RECORD>['configuration'],
): { model: ModelConfig; recipe: Recipe } {
  // A recipe that names no texts to measure on is completed with an empty list.
  const { heldOut, ...others } = recipe;
  const named = Array.isArray(heldOut) && heldOut.length === 0 ? {} : { heldOut };
  try {
    return { model: createConfig(model), recipe: createRecipe({ ...others, ...named } as RecipeInput) };
  } catch (error) {
    if (error instanceof UsageError) throw new RunError(`${path}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** What the command line called the model. */
function modelName({ preset, config, checkpoint }: v.InferOutput<typeof RECORD>['flags']): string | null {
  const first = [preset, config, checkpoint].flat().find((text) => text !== undefined);
  return first === undefined ? null : basename(first).replace(/\.json$/, '');
}
