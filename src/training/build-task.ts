import { loadCorpus } from '../data/corpus.js';
import { parseSources } from '../data/mixture.js';
import { isRecallTaskName } from '../data/recall/index.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { UsageError } from '../errors.js';
import { NeedleTask } from './needle-task.js';
import { RecallTraining } from './recall-training.js';
import type { Recipe } from './recipe.js';
import type { TrainingTask } from './task.js';
import { TextTask, type TextSource } from './text-task.js';

/** Reads and encodes the recipe's data. @throws UsageError, RunError for data that is missing or unfit */
export async function buildTask(recipe: Recipe, tokenizer: Tokenizer): Promise<TrainingTask> {
  const { task, stages, seed, evalTokens } = recipe;
  if (isRecallTaskName(task))
    return new RecallTraining({ task, vocabSize: tokenizer.vocabSize, stages, seed, evalTokens });
  const options = { tokenizer, stages, seed, evalTokens };
  const specs = parseSources(recipe.data);
  const measured = heldOutSpecs(recipe.heldOut);
  if (task === 'needle') {
    requireOneText(specs.length);
    return new NeedleTask({ ...options, corpus: await loadCorpus(specs.flatMap(({ paths }) => paths)) });
  }
  const load = async (list: typeof specs): Promise<TextSource[]> =>
    Promise.all(
      list.map(async ({ name, paths, weight }) => ({ name, weight, corpus: await loadCorpus(paths) })),
    );
  return new TextTask({ ...options, sources: await load(specs), heldOut: await load(measured) });
}

/** Texts without names are measured apart, each called after its file. */
function heldOutSpecs(heldOut: readonly string[]): ReturnType<typeof parseSources> {
  if (heldOut.length === 0) return [];
  const specs = parseSources(heldOut);
  const weighted = specs.find(({ weight }) => weight !== null);
  if (weighted === undefined) {
    return specs[0]?.name === null
      ? heldOut.map((path) => ({ name: null, paths: [path], weight: null }))
      : specs;
  }
  throw new UsageError(
    `held-out text '${weighted.name ?? ''}' has a weight, but is measured only: leave it out`,
  );
}

function requireOneText(sources: number): void {
  if (sources === 1) return;
  throw new UsageError('needles are hidden in one text: leave the names and weights of --data out');
}
