/** One trial of the needle test: prefill the prompt in chunks, let the model answer, and look at the answer. */
import { firstNumber, isExactAnswer, type NeedlePrompt } from '../../data/needle/prompt.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import { SOLO, type Communicator } from '../../distributed/communicator.js';
import type { Engine } from '../../engines/engine.js';
import type { ModelCache } from '../../model/state/state-cache.js';
import type { LanguageModel } from '../../model/language-model.js';
import { peakResidentBytes } from '../../sweep/memory-budget.js';
import type * as tf from '../../tf.js';
import { consume, consumeForLast } from '../scoring/consume.js';
import { generateTokens } from '../generation/generation.js';
import { greedyChoice, greedySampler, sharedSampler } from '../generation/sampling.js';
import { continueTogether } from '../generation/together.js';
import type { NeedleSpeed, TrialFigures } from './cells.js';

/** Tokens of an answer at most, as in the official code. */
export const ANSWER_TOKENS = 20;

export interface TrialTools {
  readonly model: LanguageModel;
  readonly tokenizer: Tokenizer;
  readonly engine: Engine;
  /** The ranks that divide the prompt; default: none. */
  readonly communicator?: Communicator;
  /** Called with the tokens of the prompt consumed so far. */
  readonly onTokens?: (tokens: number) => void;
}

/** The figures of a trial. */
export async function runTrial(prompt: NeedlePrompt, tools: TrialTools): Promise<TrialFigures> {
  const { model, tokenizer, engine } = tools;
  const { context } = prompt.task;
  engine.resetPeak();
  const cache = model.createCache({ maxTokens: context + ANSWER_TOKENS });
  try {
    await engine.synchronize();
    const started = performance.now();
    const logits = readPrompt(prompt, cache, tools);
    await engine.synchronize();
    const prefilled = performance.now();
    const tokens: number[] = [];
    let first = prefilled;
    const sampler = sharedSampler(greedySampler, tools.communicator ?? SOLO);
    const options = { sampler, limit: ANSWER_TOKENS, stopTokens: tokenizer.stopTokens, lastUse: true };
    for await (const token of generateTokens(model, cache, logits, options)) {
      if (tokens.length === 0) first = performance.now();
      tokens.push(token);
    }
    const seconds = (performance.now() - first) / 1000;
    return {
      ...judge(prompt, tokenizer.decode(tokens)),
      prefillSeconds: (prefilled - started) / 1000,
      prefillTokensPerSecond: context / ((prefilled - started) / 1000),
      firstTokenSeconds: (first - started) / 1000,
      decodeTokensPerSecond: tokens.length > 1 ? (tokens.length - 1) / seconds : null,
      peakBytes: engine.memory().peakBytes,
      peakResidentBytes: peakResidentBytes(),
    };
  } finally {
    cache.dispose();
  }
}

/**
 * The figures of trials that are computed together, or why one has none. Nothing is measured: a time would be that of all of
 * them.
 */
export async function runTrials(
  prompts: readonly NeedlePrompt[],
  { model, tokenizer, onTokens }: TrialTools,
): Promise<PromiseSettledResult<TrialFigures>[]> {
  const read = new Map<NeedlePrompt, number>();
  const continued = prompts.map((prompt) => ({
    prompt: tokensOf(prompt),
    choose: greedyChoice,
    onRead: (tokens: number): void => {
      read.set(prompt, tokens);
      onTokens?.([...read.values()].reduce((sum, count) => sum + count, 0));
    },
  }));
  const options = { batch: prompts.length, limit: ANSWER_TOKENS, stopTokens: tokenizer.stopTokens };
  const answers = continueTogether(model, continued, options).map(async (answer, i) => {
    const text = tokenizer.decode(await answer);
    return { ...judge(prompts[i] as NeedlePrompt, text), ...NOT_MEASURED };
  });
  return Promise.allSettled(answers);
}

const NOT_MEASURED: NeedleSpeed = {
  prefillSeconds: null,
  prefillTokensPerSecond: null,
  firstTokenSeconds: null,
  decodeTokensPerSecond: null,
  peakBytes: null,
  peakResidentBytes: null,
};

function tokensOf(prompt: NeedlePrompt): Int32Array {
  const [tokens = new Int32Array()] = prompt.chunks(prompt.task.context);
  return tokens;
}

function readPrompt(prompt: NeedlePrompt, cache: ModelCache, { model, onTokens }: TrialTools): tf.Tensor2D {
  const { context } = prompt.task;
  for (const ids of prompt.chunks(model.chunkTokens)) {
    if (cache.length + ids.length === context) return consumeForLast(model, cache, ids);
    consume(model, cache, ids);
    onTokens?.(cache.length);
  }
  throw new Error(`the prompt ended before its ${context} tokens`);
}

function judge(prompt: NeedlePrompt, answer: string): Omit<TrialFigures, keyof NeedleSpeed> {
  const given = firstNumber(answer);
  // Of two lines with one number, the asked one is meant.
  const sameNumber = prompt.lines.filter(({ number }) => String(number) === given);
  const taken = sameNumber.find(({ kind }) => kind === 'asked') ?? sameNumber[0];
  return {
    placedDepth: prompt.placedDepth,
    expected: prompt.answer,
    answer: JSON.stringify(answer).slice(1, -1),
    exact: isExactAnswer(answer, prompt.answer) ? 1 : 0,
    contained: answer.includes(prompt.answer) ? 1 : 0,
    taken: taken?.kind ?? 'none',
    takenDepth: taken?.depth ?? null,
  };
}
