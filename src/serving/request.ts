/** The body of `POST /v1/completions`, checked. */
import * as v from 'valibot';
import { badRequest } from './api-error.js';

/** Logprobs of the likeliest tokens that may be asked for, and stop texts, as in OpenAI's API; choices of a prompt. */
const [MOST_LOGPROBS, MOST_STOPS, MOST_CHOICES, MOST_PROMPTS] = [5, 4, 16, 2048];

const wholeNumber = (least: number, most: number) =>
  v.pipe(
    v.number('must be a number'),
    v.integer('must be a whole number'),
    v.minValue(least, `must be from ${least} to ${most}`),
    v.maxValue(most, `must be from ${least} to ${most}`),
  );
const decimal = (least: number, most: number) =>
  v.pipe(
    v.number('must be a number'),
    v.minValue(least, `must be from ${least} to ${most}`),
    v.maxValue(most, `must be from ${least} to ${most}`),
  );
const tokenIds = v.pipe(v.array(wholeNumber(0, 2 ** 31 - 1)), v.minLength(1, 'must not be an empty list'));
const text = v.string('must be a text');

const PROMPT = v.union(
  [
    text,
    tokenIds,
    v.pipe(v.array(text), v.minLength(1, 'must not be an empty list'), v.maxLength(MOST_PROMPTS)),
    v.pipe(v.array(tokenIds), v.minLength(1, 'must not be an empty list'), v.maxLength(MOST_PROMPTS)),
  ],
  `must be a text, a list of token ids, or a list of at most ${MOST_PROMPTS} of either`,
);

/** Fields of OpenAI's API that are not supported, and the values that ask for nothing. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  best_of: [1],
  suffix: [''],
  frequency_penalty: [0],
  presence_penalty: [0],
  logit_bias: [],
};

const BODY = v.object({
  model: v.optional(text),
  prompt: PROMPT,
  max_tokens: v.nullish(wholeNumber(0, 2 ** 31 - 1), 16),
  temperature: v.nullish(decimal(0, 2), 1),
  top_p: v.nullish(
    v.pipe(v.number('must be a number'), v.gtValue(0, 'must be above 0'), v.maxValue(1, 'must be at most 1')),
    1,
  ),
  n: v.nullish(wholeNumber(1, MOST_CHOICES), 1),
  seed: v.nullish(wholeNumber(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)),
  logprobs: v.nullish(wholeNumber(0, MOST_LOGPROBS)),
  echo: v.nullish(v.boolean('must be true or false'), false),
  stream: v.nullish(v.boolean('must be true or false'), false),
  stream_options: v.nullish(v.object({ include_usage: v.optional(v.boolean('must be true or false')) })),
  stop: v.nullish(
    v.union(
      [text, v.pipe(v.array(text), v.maxLength(MOST_STOPS))],
      `must be a text or a list of at most ${MOST_STOPS} texts`,
    ),
  ),
  user: v.nullish(text),
});

export interface CompletionRequest {
  readonly model?: string;
  /** Texts, or token ids. */
  readonly prompts: readonly (string | readonly number[])[];
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP: number;
  /** Choices per prompt. */
  readonly choices: number;
  readonly seed: number | null;
  /** How many of the likeliest tokens to report at each position; null: no logprobs. */
  readonly logprobs: number | null;
  readonly echo: boolean;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly stop: readonly string[];
}

/** @throws ApiError that names the field and what it may be */
export function readCompletionRequest(body: unknown): CompletionRequest {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw badRequest('the body must be a JSON object');
  }
  const fields = withoutUnsupported(body as Record<string, unknown>);
  const result = v.safeParse(BODY, fields);
  if (!result.success) {
    const [issue] = result.issues;
    const path = issue.path?.map(({ key }) => String(key)).join('.') ?? '';
    throw badRequest(`${path}: ${reasonOf(issue, fields)}`, path);
  }
  return requestOf(result.output);
}

function reasonOf({ path, message }: v.BaseIssue<unknown>, fields: Record<string, unknown>): string {
  const [first] = path ?? [];
  return first !== undefined && !(String(first.key) in fields) ? 'is missing' : message;
}

function withoutUnsupported(body: Record<string, unknown>): Record<string, unknown> {
  const known: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(body)) {
    const neutral = NEUTRAL[name];
    if (neutral === undefined) {
      if (!(name in BODY.entries)) {
        throw badRequest(
          `${name}: there is no such field; known are ${Object.keys(BODY.entries).join(', ')}`,
          name,
        );
      }
      known[name] = value;
    } else if (value !== null && !neutral.includes(value) && !isEmptyObject(value)) {
      throw badRequest(`${name} is not supported: leave it out`, name);
    }
  }
  return known;
}

const isEmptyObject = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;

function requestOf(body: v.InferOutput<typeof BODY>): CompletionRequest {
  const { prompt, stop, max_tokens: maxTokens, echo, stream } = body;
  const isOne = typeof prompt === 'string' || typeof prompt[0] === 'number';
  if (maxTokens === 0 && !echo)
    throw badRequest('max_tokens: 0 leaves nothing to answer unless echo is true', 'max_tokens');
  if ((body.stream_options ?? null) !== null && !stream) {
    throw badRequest('stream_options: only where stream is true', 'stream_options');
  }
  const stops = typeof stop === 'string' ? [stop] : (stop ?? []);
  if (stops.includes('')) throw badRequest('stop: an empty text would stop at once', 'stop');
  return {
    model: body.model,
    prompts: (isOne ? [prompt] : prompt) as CompletionRequest['prompts'],
    ...{ maxTokens, echo, stream, stop: stops },
    temperature: body.temperature,
    topP: body.top_p,
    choices: body.n,
    seed: body.seed ?? null,
    logprobs: body.logprobs ?? null,
    includeUsage: body.stream_options?.include_usage ?? false,
  };
}
