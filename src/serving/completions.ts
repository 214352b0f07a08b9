/** From a checked request to the choices of its prompts, computed together. */
import { randomInt, randomUUID } from 'node:crypto';
import type { Tokenizer } from '../data/tokenizer.js';
import { promptTokens } from '../evaluation/generation/generate.js';
import type { SequenceRunner } from '../evaluation/generation/sequence-runner.js';
import { UsageError } from '../errors.js';
import { ApiError, badRequest } from './api-error.js';
import { Choice, type ChoiceLogprobs, type ChoicePart, type FinishReason } from './choice.js';
import type { CompletionRequest } from './request.js';

/** The model that is served. */
export interface Served {
  /** What `/v1/models` calls it. */
  readonly name: string;
  readonly tokenizer: Tokenizer;
  /** Of the model, padding included. */
  readonly vocabSize: number;
  /** Tokens of a prompt and its continuation at most. */
  readonly maxContext: number;
  readonly runner: SequenceRunner;
  /** Sequences that may wait. */
  readonly maxWaiting: number;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

interface CompletionChoice {
  readonly index: number;
  readonly text: string;
  readonly logprobs: ChoiceLogprobs | null;
  readonly finish_reason: FinishReason | null;
}

/** An answer of `POST /v1/completions`, or a part of one that is streamed. */
export interface CompletionBody {
  readonly id: string;
  readonly object: 'text_completion';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly CompletionChoice[];
  readonly usage?: Usage | null;
}

interface Prompt {
  readonly tokens: Int32Array;
  readonly text: string | null;
}

/** A request whose prompts are encoded and fit. */
export class Completion {
  private readonly id = `cmpl-${randomUUID()}`;
  private readonly created = Math.floor(Date.now() / 1000);
  private readonly prompts: readonly Prompt[];

  /** @throws ApiError for what cannot be answered */
  constructor(
    private readonly served: Served,
    readonly request: CompletionRequest,
  ) {
    if (request.model !== undefined && request.model !== served.name)
      throw unknownModel(request.model, served);
    this.prompts = request.prompts.map((prompt) => encode(prompt, request, served));
    const sequences = this.prompts.length * request.choices;
    const { waiting } = served.runner.load;
    if (waiting > 0 && waiting + sequences > served.maxWaiting) {
      throw new ApiError(429, `${waiting} sequences are waiting already: try again later`, {
        code: 'overloaded',
      });
    }
  }

  /**
   * Computes all choices.
   * @param onPart told each part as it comes
   * @param controller aborted when one choice fails, since no answer has a part of its choices
   */
  async run(onPart: (index: number, part: ChoicePart) => void, controller: AbortController): Promise<Usage> {
    const { request, served } = this;
    const seed = request.seed ?? randomInt(2 ** 47);
    const choices = this.prompts.flatMap(({ tokens, text }, at) =>
      Array.from({ length: request.choices }, (_, i) => {
        const index = at * request.choices + i;
        return new Choice({
          ...{ request, tokenizer: served.tokenizer, prompt: tokens, promptText: text },
          // Every prompt is answered as if it were alone.
          seed: i === 0 ? seed : `${seed} ${i}`,
          onPart: (part) => {
            onPart(index, part);
          },
        });
      }),
    );
    const work = choices.map((choice) => served.runner.run(choice, controller.signal));
    for (const promise of work) {
      promise.catch((error: unknown) => {
        controller.abort(error);
      });
    }
    await Promise.all(work);
    const promptTokens = this.prompts.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const generated = choices.reduce((sum, choice) => sum + choice.generated, 0);
    return {
      prompt_tokens: promptTokens,
      completion_tokens: generated,
      total_tokens: promptTokens + generated,
    };
  }

  /** The whole answer. */
  async answer(controller: AbortController): Promise<CompletionBody> {
    const count = this.prompts.length * this.request.choices;
    const parts: ChoicePart[][] = Array.from({ length: count }, () => []);
    const usage = await this.run((index, part) => parts[index]?.push(part), controller);
    return { ...this.body(parts.map((own, index) => choiceOf(index, own))), usage };
  }

  /** A part of a streamed answer. */
  part(index: number, part: ChoicePart): CompletionBody {
    return this.body([choiceOf(index, [part])]);
  }

  /** The end of a streamed answer that was asked for its usage. */
  usage(usage: Usage): CompletionBody {
    return { ...this.body([]), usage };
  }

  private body(choices: readonly CompletionChoice[]): CompletionBody {
    const { id, created, served } = this;
    return { id, object: 'text_completion', created, model: served.name, choices };
  }
}

function choiceOf(index: number, parts: readonly ChoicePart[]): CompletionChoice {
  const logprobs = parts.map((part) => part.logprobs).filter((part) => part !== null);
  return {
    index,
    text: parts.map(({ text }) => text).join(''),
    logprobs:
      logprobs.length === 0
        ? null
        : {
            tokens: logprobs.flatMap(({ tokens }) => tokens),
            token_logprobs: logprobs.flatMap((part) => part.token_logprobs),
            top_logprobs: logprobs.flatMap((part) => part.top_logprobs),
            text_offset: logprobs.flatMap((part) => part.text_offset),
          },
    finish_reason: parts.at(-1)?.finishReason ?? null,
  };
}

export const unknownModel = (name: string, served: Pick<Served, 'name'>): ApiError =>
  new ApiError(404, `there is no model '${name}': '${served.name}' is served`, {
    param: 'model',
    code: 'model_not_found',
  });

/** @throws ApiError for ids outside the vocabulary, an empty prompt, or one that is too long */
function encode(prompt: string | readonly number[], request: CompletionRequest, served: Served): Prompt {
  const { maxContext, vocabSize, tokenizer } = served;
  const given = typeof prompt === 'string' ? encodeText(tokenizer, prompt) : Int32Array.from(prompt);
  const outside = given.find((id) => id >= vocabSize);
  if (outside !== undefined) {
    throw badRequest(`prompt: token ${outside} is beyond the vocabulary of ${vocabSize} tokens`, 'prompt');
  }
  const total = given.length + request.maxTokens;
  if (total > maxContext) {
    throw new ApiError(
      400,
      `the prompt has ${given.length} tokens and max_tokens is ${request.maxTokens}: together ${total}, but at most ${maxContext} fit`,
      { param: 'prompt', code: 'context_length_exceeded' },
    );
  }
  return { tokens: given, text: typeof prompt === 'string' ? prompt : null };
}

function encodeText(tokenizer: Tokenizer, text: string): Int32Array {
  try {
    return promptTokens(tokenizer, text);
  } catch (error) {
    if (error instanceof UsageError) throw badRequest(`prompt: ${error.message}`, 'prompt');
    throw error;
  }
}
