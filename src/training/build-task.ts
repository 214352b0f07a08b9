import { loadCorpus } from '../data/corpus.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { NeedleTask } from './needle-task.js';
import type { Recipe } from './recipe.js';
import type { TrainingTask } from './task.js';
import { TextTask } from './text-task.js';

/** Reads and encodes the recipe's data. @throws UsageError, RunError for data that is missing or unfit */
export async function buildTask(recipe: Recipe, tokenizer: Tokenizer): Promise<TrainingTask> {
  const corpus = await loadCorpus(recipe.data);
  const heldOut = await Promise.all(recipe.heldOut.map((spec) => loadCorpus(spec)));
  const { stages, seed, evalTokens } = recipe;
  const options = { corpus, tokenizer, stages, seed, evalTokens };
  return recipe.task === 'needle' ? new NeedleTask(options) : new TextTask({ ...options, heldOut });
}
