/**
 * Answers the items of a task by likelihood, as lm-evaluation-harness does, and MMLU as Hendrycks et al. (2021, arXiv
 * 2009.03300). What all prompts of a task begin with is computed once.
 */
import type { Task, TaskItem } from '../../data/tasks/task.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import type { LanguageModel } from '../../model/language-model.js';
import { scoreGroups, type Score } from '../scoring/likelihood.js';
import { SharedPrefix } from '../scoring/shared-prefix.js';
import { TaskPrompts, type ItemPrompt } from './prompts.js';

/** Items scored in one go at least; cut at fixed places so that a resumed run computes what an unbroken one does. */
const GROUP = 64;

export interface ItemResult {
  readonly item: TaskItem;
  /** Examples in the prompt. */
  readonly shots: number;
  /** Tokens before the continuation of the first option. */
  readonly promptTokens: number;
  /** Whether the item was too long and lost its beginning. */
  readonly isCut: boolean;
  /** Log-likelihood of each option, in nats. */
  readonly logLikelihoods: readonly number[];
  /** Index of the likeliest option; null for cloze items. */
  readonly prediction: number | null;
  /** Index of the option of the highest likelihood per character; null where that is no metric of the task. */
  readonly normalizedPrediction: number | null;
  /** The likeliest option is the right one; for cloze items: greedy decoding gives the continuation. */
  readonly correct: boolean;
  readonly normalizedCorrect: boolean | null;
}

export interface TaskScoring {
  /** Tokens of a prompt at most, Infinity for no limit. */
  readonly limit: number;
  /** Items whose result is known: groups of them are left out. */
  readonly isKnown: (index: number) => boolean;
  /** Sequences computed in one pass at most; default: `scoreRequests` has one. Results do not depend on it. */
  readonly batch?: number;
}

/**
 * Results of a task's items in their order.
 * @throws RunError for a score that is not finite
 */
export async function* scoreTask(
  model: LanguageModel,
  tokenizer: Tokenizer,
  task: Task,
  { limit, isKnown, batch }: TaskScoring,
): AsyncGenerator<ItemResult> {
  const prompts = new TaskPrompts(task, tokenizer, limit);
  const openings = new Openings(model, prompts);
  try {
    const size = Math.max(GROUP, batch ?? 0);
    for (let from = 0; from < task.items.length; from += size) {
      const group = task.items.slice(from, from + size);
      if (group.every(({ index }) => isKnown(index))) continue;
      const written = prompts.prompts(group);
      // An item's options share what they begin with, items only the opening: so no score depends on the group.
      const groups = written.map((prompt) => ({ requests: prompt.requests, prefix: openings.of(prompt) }));
      const scores = await scoreGroups(model, groups, { greedy: task.kind === 'cloze', batch });
      for (const [i, prompt] of written.entries()) yield resultOf(task, prompt, scores[i] ?? []);
    }
  } finally {
    openings.dispose();
  }
}

/** What prompts of a task begin with, consumed when first asked for; none where they begin with the item itself. */
class Openings {
  private readonly known = new Map<number, SharedPrefix | undefined>();

  constructor(
    private readonly model: LanguageModel,
    private readonly prompts: TaskPrompts,
  ) {}

  /** The prefix that all requests of this prompt continue; undefined without one. */
  of({ shots, requests }: ItemPrompt): SharedPrefix | undefined {
    if (!this.known.has(shots)) this.known.set(shots, this.prefill(shots));
    const prefix = this.known.get(shots);
    const begins = requests.every(
      ({ tokens, start }) => prefix?.begins(tokens) && start > prefix.tokens.length,
    );
    return begins ? prefix : undefined;
  }

  dispose(): void {
    for (const prefix of this.known.values()) prefix?.dispose();
  }

  private prefill(shots: number): SharedPrefix | undefined {
    // The last token of a text may merge with what follows; the ones before it stay.
    const tokens = this.prompts.openingTokens(shots).subarray(0, -1);
    return tokens.length === 0 ? undefined : SharedPrefix.prefill(this.model, tokens);
  }
}

function resultOf(
  { kind, metrics }: Task,
  { item, shots, requests }: ItemPrompt,
  scores: readonly Score[],
): ItemResult {
  const logLikelihoods = scores.map(({ logLikelihood }) => logLikelihood);
  const normalized = logLikelihoods.map(
    (value, index) => value / characters(item.options[index]?.continuation ?? ''),
  );
  const prediction = kind === 'choice' ? indexOfLargest(logLikelihoods) : null;
  const normalizedPrediction = metrics.includes('accuracy_normalized') ? indexOfLargest(normalized) : null;
  return {
    ...{ item, shots, logLikelihoods, prediction, normalizedPrediction },
    promptTokens: requests[0]?.start ?? 0,
    isCut: requests.some(({ dropped }) => dropped > 0),
    correct: kind === 'cloze' ? (scores[0]?.greedy ?? false) : prediction === item.gold,
    normalizedCorrect: normalizedPrediction === null ? null : normalizedPrediction === item.gold,
  };
}

const indexOfLargest = (values: readonly number[]): number => values.indexOf(Math.max(...values));

/** Length in characters without the space before, by which the official code divides as well. */
const characters = (continuation: string): number => Math.max(1, Array.from(continuation.trim()).length);
