/** One choice of a completion as it is computed: tokens, their text and their log-probabilities. */
import type { Tokenizer } from '../data/tokenizer.js';
import type { Sequence } from '../evaluation/generation/sequence-runner.js';
import { drawToken, greedyChoice } from '../evaluation/generation/sampling.js';
import { requireFiniteRow } from '../evaluation/scoring/finite.js';
import { TextStream } from '../evaluation/generation/text-stream.js';
import { Random } from '../random.js';
import { logProbabilities, type PositionLogProbabilities } from './log-probabilities.js';
import type { CompletionRequest } from './request.js';
import { StopTexts } from './stop-texts.js';
import { TokenTexts } from './token-texts.js';

/** Log-probabilities as OpenAI's completions have them. */
export interface ChoiceLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
}

export type FinishReason = 'stop' | 'length';

/** What a choice adds to what it gave before. */
export interface ChoicePart {
  readonly text: string;
  readonly logprobs: ChoiceLogprobs | null;
  readonly finishReason: FinishReason | null;
}

export interface ChoiceOptions {
  readonly request: CompletionRequest;
  readonly tokenizer: Tokenizer;
  readonly prompt: Int32Array;
  /** The text of the prompt as the client gave it; null where it gave tokens. */
  readonly promptText: string | null;
  /** Of this choice. */
  readonly seed: number | string;
  readonly onPart: (part: ChoicePart) => void;
}

export class Choice implements Sequence {
  readonly prompt: Int32Array;
  readonly scoredFrom: number;
  generated = 0;
  private readonly stream: TextStream;
  private readonly texts: TokenTexts;
  private readonly stops: StopTexts;
  private readonly random: Random;
  /** Characters of the text so far, for `text_offset`. */
  private offset = 0;
  private readonly promptScores: PositionLogProbabilities[] = [];
  private isPromptGiven = false;

  constructor(private readonly options: ChoiceOptions) {
    const { request, tokenizer, prompt, seed } = options;
    this.prompt = prompt;
    const scoresPrompt = request.echo && request.logprobs !== null;
    this.scoredFrom = scoresPrompt ? 1 : prompt.length;
    this.stream = new TextStream(tokenizer, prompt);
    this.texts = TokenTexts.of(tokenizer);
    this.stops = new StopTexts(request.stop);
    this.random = new Random(seed);
  }

  onPrompt = (logits: Float32Array, position: number): void => {
    requireFiniteRow(logits);
    const { logprobs } = this.options.request;
    const token = this.prompt[position] as number;
    this.promptScores.push(logProbabilities(logits, token, logprobs ?? 0));
  };

  choose = (logits: Float32Array): number | null => {
    requireFiniteRow(logits);
    const { request, tokenizer } = this.options;
    this.givePrompt();
    if (request.maxTokens === 0) return this.finish('length');
    const token = this.draw(logits);
    this.generated += 1;
    const isEnd = tokenizer.stopTokens.includes(token);
    const text = isEnd ? '' : this.textOf(token);
    const logprobs = this.logprobsOf(logits, token, text);
    const { ready, isStopped } = this.stops.push(text);
    const isLast = this.generated >= request.maxTokens;
    const ends = isEnd || isStopped;
    const isOver = ends || isLast;
    const rest = isOver && !isStopped ? this.stream.end() : '';
    const part = isStopped ? ready : isOver ? ready + this.stops.end(rest) : ready;
    const finishReason = ends ? 'stop' : isLast ? 'length' : null;
    this.options.onPart({ text: part, logprobs, finishReason });
    return finishReason === null ? token : null;
  };

  /** The text that this token completes; where only the whole text is needed, it comes at the end. */
  private textOf(token: number): string {
    const { stream, stop, logprobs } = this.options.request;
    if (stream || stop.length > 0 || logprobs !== null) return this.stream.push(token);
    this.stream.hold(token);
    return '';
  }

  private finish(finishReason: FinishReason): null {
    this.options.onPart({ text: '', logprobs: null, finishReason });
    return null;
  }

  private draw(logits: Float32Array): number {
    const { temperature, topP } = this.options.request;
    if (temperature === 0) return greedyChoice(logits);
    return drawToken(logits, {
      temperature,
      topK: null,
      topP: topP === 1 ? null : topP,
      random: this.random,
    });
  }

  private logprobsOf(logits: Float32Array, token: number, text: string): ChoiceLogprobs | null {
    const { logprobs } = this.options.request;
    if (logprobs === null) return null;
    const scores = logProbabilities(logits, token, logprobs);
    const position = this.format([scores], [text], this.offset);
    this.offset += text.length;
    return position;
  }

  /** The text of the prompt and its log-probabilities, once, before anything else. */
  private givePrompt(): void {
    const { request, tokenizer, prompt, promptText } = this.options;
    if (this.isPromptGiven || !request.echo) return;
    this.isPromptGiven = true;
    const texts = request.logprobs === null ? [] : [...prompt].map((token) => this.texts.text(token));
    const text = promptText ?? tokenizer.decode(prompt);
    let logprobs: ChoiceLogprobs | null = null;
    if (request.logprobs !== null) {
      const first = this.format(
        [{ token: prompt[0] as number, logProbability: NaN, top: [] }],
        texts.slice(0, 1),
        0,
      );
      const rest = this.format(this.promptScores, texts.slice(1), texts[0]?.length ?? 0);
      // Nothing comes before the first token: it has no probability.
      logprobs = {
        tokens: [...first.tokens, ...rest.tokens],
        token_logprobs: [null, ...rest.token_logprobs],
        top_logprobs: [null, ...rest.top_logprobs],
        text_offset: [...first.text_offset, ...rest.text_offset],
      };
    }
    this.offset = text.length;
    this.options.onPart({ text, logprobs, finishReason: null });
  }

  private format(
    scores: readonly PositionLogProbabilities[],
    texts: readonly string[],
    start: number,
  ): ChoiceLogprobs {
    let offset = start;
    const offsets = texts.map((text) => {
      const at = offset;
      offset += text.length;
      return at;
    });
    return {
      tokens: [...texts],
      token_logprobs: scores.map(({ logProbability }) => logProbability),
      top_logprobs: scores.map((position) => this.topOf(position)),
      text_offset: offsets,
    };
  }

  /** By the text of each token; of tokens of one text the likeliest counts. The token itself is among them. */
  private topOf({ top, token, logProbability }: PositionLogProbabilities): Record<string, number> {
    const table: Record<string, number> = {};
    for (const entry of [...top, { token, logProbability }]) {
      const text = this.texts.text(entry.token);
      table[text] = Math.max(table[text] ?? -Infinity, entry.logProbability);
    }
    return table;
  }
}
