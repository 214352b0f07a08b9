/** From a choice of model and a recipe to what `trainModel` takes. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readJson } from '../checkpoint/files.js';
import type { ModelChoice } from '../sweep/model-key.js';
import { checkpointHash } from '../sweep/models.js';
import { loadTokenizer } from '../data/tokenizer.js';
import { UsageError } from '../errors.js';
import { architectureName, createConfig, selfDecoderOf } from '../model/config.js';
import type { ModelConfig } from '../model/config.js';
import type { Recipe, RecipeInput } from './recipe.js';
import type { TrainOptions } from './train.js';

/**
 * Settings from a JSON file; `createRecipe` checks them.
 * @throws UsageError for a missing file, RunError for one that is no JSON object
 */
export function readRecipe(file: string): RecipeInput {
  if (!existsSync(file)) throw new UsageError(`recipe ${file}: there is no such file`);
  return readJson(file);
}

/** A preset is a size: it takes the vocabulary of the tokenizer in use. */
export async function withVocabulary(config: ModelConfig, recipe: Recipe): Promise<ModelConfig> {
  const { vocabSize } = await loadTokenizer(recipe.tokenizer);
  return createConfig({ ...config, vocabSize });
}

/** The weights of a checkpoint to begin with, if one was named. */
export function initialWeights({ checkpoint }: ModelChoice): TrainOptions['initial'] {
  return checkpoint && { checkpoint, sha256: checkpointHash(checkpoint) };
}

/** `runs/tiny-yoco`, `runs/needle-nano-yoco-sliding-window`. */
export function defaultDirectory({ name, config }: ModelChoice, { task }: Recipe): string {
  const architecture = architectureName(config).replace(/[^a-z0-9]+/g, '-');
  const selfDecoder = selfDecoderOf(config);
  const parts = [
    task === 'text' ? '' : task,
    name,
    name.includes(architecture) ? '' : architecture,
    selfDecoder === null || selfDecoder === 'gated-retention' ? '' : selfDecoder,
  ];
  return join('runs', parts.filter((part) => part !== '').join('-'));
}
