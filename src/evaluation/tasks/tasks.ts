/** The tasks of the paper's harness table, scored as lm-evaluation-harness does. */
import type { ChoiceItem, ChoiceTask } from '../../data/tasks/choice-tasks.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import type { LanguageModel } from '../../model/language-model.js';
import { encodeRequest, scoreRequests, type Score } from '../scoring/likelihood.js';

/** Items scored in one go; cut at fixed places so that a resumed run computes what an unbroken one does. */
const GROUP = 32;

export interface ItemResult {
  readonly item: ChoiceItem;
  /** Index of the likeliest option; null for cloze items. */
  readonly prediction: number | null;
  /** Index of the option of the highest likelihood per character; null where lengths do not differ. */
  readonly normalizedPrediction: number | null;
  /** The likeliest option is the right one; for cloze items: greedy decoding gives the continuation. */
  readonly correct: boolean;
  readonly normalizedCorrect: boolean | null;
  /** Log-likelihood of the right option, in nats. */
  readonly goldLogLikelihood: number;
  /** Log-likelihood of the likeliest wrong option; null for cloze items. */
  readonly rivalLogLikelihood: number | null;
}

export interface TaskScoring {
  /** Tokens of a prompt at most, of which the last are kept. */
  readonly limit: number;
  /** Items whose result is known: groups of them are left out. */
  readonly isKnown: (index: number) => boolean;
}

export async function* scoreTask(
  model: LanguageModel,
  tokenizer: Tokenizer,
  task: ChoiceTask,
  { limit, isKnown }: TaskScoring,
): AsyncGenerator<ItemResult> {
  for (let from = 0; from < task.items.length; from += GROUP) {
    const group = task.items.slice(from, from + GROUP);
    if (group.every(({ index }) => isKnown(index))) continue;
    const requests = group.flatMap(({ options }) =>
      options.map(({ context, continuation }) => encodeRequest(tokenizer, context, continuation, limit)),
    );
    const scores = await scoreRequests(model, requests, { greedy: task.kind === 'cloze' });
    let at = 0;
    for (const item of group) {
      const own = scores.slice(at, at + item.options.length);
      at += item.options.length;
      yield task.kind === 'cloze' ? clozeResult(item, own) : choiceResult(item, own, task.normalizable);
    }
  }
}

function clozeResult(item: ChoiceItem, [score]: readonly Score[]): ItemResult {
  return {
    item,
    prediction: null,
    normalizedPrediction: null,
    correct: score?.greedy ?? false,
    normalizedCorrect: null,
    goldLogLikelihood: score?.logLikelihood ?? NaN,
    rivalLogLikelihood: null,
  };
}

function choiceResult(item: ChoiceItem, scores: readonly Score[], normalizable: boolean): ItemResult {
  const likelihoods = scores.map(({ logLikelihood }) => logLikelihood);
  const normalized = likelihoods.map(
    (value, index) => value / characters(item.options[index]?.continuation ?? ''),
  );
  const prediction = indexOfLargest(likelihoods);
  const normalizedPrediction = normalizable ? indexOfLargest(normalized) : null;
  return {
    item,
    prediction,
    normalizedPrediction,
    correct: prediction === item.gold,
    normalizedCorrect: normalizedPrediction === null ? null : normalizedPrediction === item.gold,
    goldLogLikelihood: likelihoods[item.gold] ?? NaN,
    rivalLogLikelihood: Math.max(...likelihoods.filter((_, index) => index !== item.gold)),
  };
}

const indexOfLargest = (values: readonly number[]): number => values.indexOf(Math.max(...values));

/** Length in characters without the space before, by which the official code divides as well. */
const characters = (continuation: string): number => Math.max(1, Array.from(continuation.trim()).length);
