/**
 * MMLU as Hendrycks et al. ask it (2021, arXiv 2009.03300): the answer is the likeliest of " A", " B", " C", " D" after a
 * prompt with examples; the examples are computed once per subject.
 */
import { LETTERS, type Question, type QuestionSet, type Subject } from '../../data/tasks/mmlu.js';
import { MMLU_CATEGORIES } from '../../data/tasks/mmlu-subjects.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import type { LanguageModel } from '../../model/language-model.js';
import { scoreRequests } from '../scoring/likelihood.js';
import { MmluPrompts, type QuestionPrompt } from './mmlu-prompts.js';
import { SharedPrefix } from '../scoring/shared-prefix.js';
import { accuracyCells, macroCells, type Outcomes } from './accuracy.js';
import type { Row } from '../../results/schema.js';

/** Questions scored in one go. */
const GROUP = 16;

export interface QuestionResult {
  readonly question: Question;
  readonly shots: number;
  readonly promptTokens: number;
  /** Log-likelihood of each letter, in nats. */
  readonly logLikelihoods: readonly number[];
  /** Index of the likeliest letter. */
  readonly prediction: number;
}

export interface MmluScoring {
  /** Tokens of a prompt at most; Infinity for no limit. */
  readonly limit: number;
  /** Questions whose result is known: groups of them are left out. */
  readonly isKnown: (index: number) => boolean;
}

/** Results of a subject's questions in their order. */
export async function* scoreSubject(
  model: LanguageModel,
  tokenizer: Tokenizer,
  subject: Subject,
  { limit, isKnown }: MmluScoring,
): AsyncGenerator<QuestionResult> {
  const prompts = new MmluPrompts(subject, tokenizer, limit);
  const prefixes = new Map<number, SharedPrefix>();
  try {
    for (let from = 0; from < subject.questions.length; from += GROUP) {
      const group = subject.questions.slice(from, from + GROUP);
      // Groups are cut at fixed places and scored whole, so that a resumed run computes what an unbroken one does.
      if (group.every(({ index }) => isKnown(index))) continue;
      yield* await scoreGroup(
        model,
        group.map((question) => prompts.prompt(question)),
        (shots) => {
          const known =
            prefixes.get(shots) ?? SharedPrefix.prefill(model, stablePrefix(prompts.prefixTokens(shots)));
          prefixes.set(shots, known);
          return known;
        },
      );
    }
  } finally {
    for (const prefix of prefixes.values()) prefix.dispose();
  }
}

/** The last token of a text may merge with what follows; the ones before it stay. */
const stablePrefix = (tokens: Int32Array): Int32Array => tokens.subarray(0, Math.max(0, tokens.length - 1));

async function scoreGroup(
  model: LanguageModel,
  group: readonly QuestionPrompt[],
  prefixOf: (shots: number) => SharedPrefix,
): Promise<QuestionResult[]> {
  const results = new Map<QuestionPrompt, QuestionResult>();
  const routes = new Map<SharedPrefix | undefined, QuestionPrompt[]>();
  for (const prompt of group) {
    const prefix = prefixOf(prompt.shots);
    const route = prompt.requests.every(
      ({ tokens, start }) => prefix.begins(tokens) && start > prefix.tokens.length,
    )
      ? prefix
      : undefined;
    routes.set(route, [...(routes.get(route) ?? []), prompt]);
  }
  for (const [prefix, prompts] of routes) {
    const scores = await scoreRequests(
      model,
      prompts.flatMap(({ requests }) => requests),
      { prefix },
    );
    for (const [index, prompt] of prompts.entries()) {
      const own = scores.slice(index * LETTERS.length, (index + 1) * LETTERS.length);
      results.set(
        prompt,
        questionResult(
          prompt,
          own.map(({ logLikelihood }) => logLikelihood),
        ),
      );
    }
  }
  return group.flatMap((prompt) => results.get(prompt) ?? []);
}

function questionResult(
  { question, shots, requests }: QuestionPrompt,
  logLikelihoods: number[],
): QuestionResult {
  return {
    question,
    shots,
    promptTokens: requests[0]?.start ?? 0,
    logLikelihoods,
    prediction: logLikelihoods.indexOf(Math.max(...logLikelihoods)),
  };
}

/** Outcomes by subject, in the order of the questions. */
export type SubjectOutcomes = ReadonlyMap<string, Outcomes>;

/** Rows for every subject, every category, and the micro and macro averages of one model. */
export function summarizeMmlu(
  set: QuestionSet,
  outcomes: SubjectOutcomes,
  baseline?: SubjectOutcomes,
): Row[] {
  const chance = 1 / LETTERS.length;
  const of = (subjects: readonly Subject[], from: SubjectOutcomes): Outcomes[] =>
    subjects.map(({ name }) => from.get(name) ?? []);
  const pooled = (level: string, name: string, subjects: readonly Subject[]): Row => ({
    level,
    name,
    ...accuracyCells(of(subjects, outcomes).flat(), chance, baseline && of(subjects, baseline).flat()),
  });
  const categories = MMLU_CATEGORIES.map((category) => ({
    category,
    subjects: set.subjects.filter((subject) => subject.category === category),
  })).filter(({ subjects }) => subjects.length > 0);
  const macro = macroCells(of(set.subjects, outcomes), chance, baseline && of(set.subjects, baseline));
  return [
    ...set.subjects.map((subject) => pooled('subject', subject.name, [subject])),
    ...categories.map(({ category, subjects }) => pooled('category', category, subjects)),
    pooled('average', 'micro', set.subjects),
    { level: 'average', name: 'macro', ...macro },
  ];
}
