/** A run that takes a second on the plain backend. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Engine } from '../../src/engines/engine.js';
import { createConfig } from '../../src/model/index.js';
import { createRecipe } from '../../src/training/recipe.js';
import type { RecipeInput } from '../../src/training/recipe.js';
import { trainModel } from '../../src/training/train.js';
import type { TrainOptions, TrainResult } from '../../src/training/train.js';
import { usePlainBackend } from '../plain-backend.js';

export const SMALL_ENGINE: Engine = {
  name: 'cpu',
  backend: 'cpu',
  description: 'plain tfjs',
  device: 'cpu',
  storage: 'float32',
  memory: () => ({ liveBytes: 0, peakBytes: 0, reservedBytes: 0 }),
  resetPeak: () => undefined,
  availableBytes: () => Infinity,
  synchronize: () => Promise.resolve(),
};

const SMALL_RECIPE: RecipeInput = {
  steps: 10,
  batch: 2,
  length: 16,
  learningRate: 1e-2,
  warmup: 2,
  evalEvery: 4,
  evalTokens: 32,
  checkpointEvery: 3,
};

const config = createConfig({ dim: 16, layers: 2, hiddenDim: 24, heads: 2, kvHeads: 1, vocabSize: 264 });

export async function trainSmall(
  directory: string,
  text: string,
  { recipe = {}, ...options }: Partial<Omit<TrainOptions, 'recipe'>> & { recipe?: RecipeInput } = {},
): Promise<TrainResult> {
  await usePlainBackend();
  const complete = createRecipe({ ...SMALL_RECIPE, data: [text], ...recipe });
  return trainModel({
    directory,
    config,
    engine: SMALL_ENGINE,
    record: { command: ['train'], flags: {} },
    ...options,
    recipe: complete,
  });
}

/** Writes a short text to a path, unless it is there. */
export function writeCorpus(path: string): string {
  const words = ['the', 'whale', 'and', 'sea', 'of', 'ship', 'man'];
  const text = Array.from({ length: 600 }, (_, index) => words[(index * index) % 7]).join(' ');
  if (!existsSync(path)) writeFileSync(path, text);
  return path;
}

/** What a run must leave, however it came about. */
export function results(run: string): Record<string, string> {
  const names = [
    'train.csv',
    'checkpoints/step-00000010/model.safetensors',
    'checkpoints/step-00000010/training.safetensors',
  ];
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(run, name)).toString('hex')]));
}
