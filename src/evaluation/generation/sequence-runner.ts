/**
 * Continuous batching: sequences join and leave while others are at work. Every pass packs the next token of each sequence
 * that is being continued with stretches of the prompts that are being read. Prompts are cut at fixed places, so that what
 * a sequence is given does not depend on the others.
 */
import { setImmediate } from 'node:timers/promises';
import type { LanguageModel } from '../../model/language-model.js';
import type { ModelCache } from '../../model/state/state-cache.js';
import { defaultChunkSize } from '../../model/costs.js';
import * as tf from '../../tf.js';
import { scoringChunk } from '../scoring/consume.js';
import { PASS_TOKENS } from '../scoring/packed-scoring.js';
import type { PrefixStore } from './prefix-store.js';

/** A sequence as whoever wants it continued describes it. */
export interface Sequence {
  /** At least one token. */
  readonly prompt: Int32Array;
  /** The first position whose logits are asked for, beside those of the last token of the prompt. */
  readonly scoredFrom: number;
  /** Logits of the token at position `position`, which is about to be known: of the prompt. Valid during the call. */
  readonly onPrompt?: (logits: Float32Array, position: number) => void;
  /** Called with the tokens of the prompt read so far. */
  readonly onRead?: (tokens: number) => void;
  /**
   * The next token after logits [V], which are valid during the call; null ends the sequence.
   * @throws what ends this sequence alone
   */
  readonly choose: (logits: Float32Array) => number | null;
}

interface Active {
  readonly sequence: Sequence;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  cache: ModelCache;
  /** Tokens that the cache is to hold: the prompt, and what was chosen. */
  next: Int32Array;
  /** Tokens of the prompt in the cache. */
  at: number;
  /** Where the prompt is cut so that others can continue from there. */
  cut: number;
}

export interface RunnerOptions {
  /** Sequences at work at most. */
  readonly batch: number;
  /** Positions per page of keys and values. */
  readonly pageSize?: number;
  /** Keeps prompts that others may begin with. */
  readonly prefixes?: PrefixStore;
  /** Tokens of a prompt in one pass at most; default: so few that those who are being continued wait no longer than they take. */
  readonly stretch?: number;
}

interface Piece {
  readonly active: Active;
  readonly tokens: Int32Array;
  readonly logits: number;
}

/** Tokens of a prompt in one pass where others wait for their next token. */
const SHORT_STRETCH = 1024;

export class SequenceRunner {
  private readonly waiting: Omit<Active, 'cache' | 'at' | 'cut' | 'next'>[] = [];
  private readonly active: Active[] = [];
  private isRunning = false;
  private readonly stretch: number;
  private readonly logitsChunk: number;

  constructor(
    private readonly model: LanguageModel,
    private readonly options: RunnerOptions,
  ) {
    this.stretch = Math.min(options.stretch ?? SHORT_STRETCH, defaultChunkSize(model.config));
    this.logitsChunk = scoringChunk(model.config);
  }

  /** Sequences at work, and those that wait for one to end. */
  get load(): { active: number; waiting: number } {
    return { active: this.active.length, waiting: this.waiting.length };
  }

  /**
   * Reads a prompt and continues it until `choose` ends it, beside the others.
   * @param signal ends the sequence early: the promise is rejected with its reason
   * @throws what `choose` and `onPrompt` throw, and what computing throws
   */
  run(sequence: Sequence, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const entry = { sequence, resolve, reject };
      const cancel = (): void => {
        this.drop(entry, signal?.reason);
      };
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      signal?.addEventListener('abort', cancel, { once: true });
      const settled = (then: () => void): void => {
        signal?.removeEventListener('abort', cancel);
        then();
      };
      entry.resolve = () => {
        settled(resolve);
      };
      entry.reject = (error) => {
        settled(() => {
          reject(error as Error);
        });
      };
      this.waiting.push(entry);
      void this.loop();
    });
  }

  private drop({ sequence, reject }: Pick<Active, 'sequence' | 'reject'>, reason: unknown): void {
    const waiting = this.waiting.findIndex((entry) => entry.sequence === sequence);
    if (waiting >= 0) this.waiting.splice(waiting, 1);
    const active = this.active.find((entry) => entry.sequence === sequence);
    if (active) this.end(active);
    reject(reason);
  }

  private async loop(): Promise<void> {
    if (this.isRunning) return;
    this.isRunning = true;
    // Those that arrive together start together; between passes, others may arrive.
    await setImmediate();
    while (this.waiting.length + this.active.length > 0) {
      this.admit();
      const pieces = this.pass();
      try {
        await this.compute(pieces);
      } catch (error) {
        for (const { active } of pieces) this.fail(active, error);
      }
      await setImmediate();
    }
    this.isRunning = false;
  }

  private admit(): void {
    while (this.active.length < this.options.batch) {
      const entry = this.waiting.shift();
      if (entry === undefined) return;
      try {
        this.active.push({ ...entry, ...this.opened(entry.sequence) });
      } catch (error) {
        entry.reject(error);
      }
    }
  }

  private opened({ prompt, scoredFrom }: Sequence): Pick<Active, 'cache' | 'at' | 'cut' | 'next'> {
    const { pageSize, prefixes } = this.options;
    // The last token's logits are always needed, and those from `scoredFrom` on must be computed.
    const usable = Math.min(prompt.length, scoredFrom) - 1;
    const cache = prefixes?.find(prompt, usable) ?? this.model.createCache({ pageSize });
    const cut = prefixes?.sharedLength(prompt, cache.length) ?? 0;
    return { cache, at: cache.length, cut, next: prompt };
  }

  /** What the next pass computes: one token of whoever is continued, then stretches of prompts. */
  private pass(): Piece[] {
    const pieces: Piece[] = [];
    let [tokens, logits] = [0, 0];
    const isReading = ({ at, sequence }: Active): boolean => at < sequence.prompt.length;
    for (const active of this.active.filter((one) => !isReading(one))) {
      pieces.push({ active, tokens: active.next, logits: 1 });
      tokens += 1;
      logits += 1;
    }
    for (const active of this.active.filter(isReading)) {
      const piece = this.piece(active);
      tokens += piece.tokens.length;
      logits += piece.logits;
      if (pieces.length > 0 && (tokens > PASS_TOKENS || logits > this.logitsChunk + this.options.batch))
        break;
      pieces.push(piece);
    }
    return pieces;
  }

  private piece(active: Active): Piece {
    const { at, cut, sequence } = active;
    const { prompt, scoredFrom } = sequence;
    // Logits of a token predict the next one.
    const first = Math.min(scoredFrom - 1, prompt.length - 1);
    const ends = [at + this.stretch, Math.max(at, first) + this.logitsChunk, prompt.length];
    if (cut > at) ends.push(cut);
    const to = Math.min(...ends);
    return { active, tokens: prompt.subarray(at, to), logits: Math.max(0, to - Math.max(at, first)) };
  }

  private async compute(pieces: readonly Piece[]): Promise<void> {
    const [first] = pieces;
    if (first === undefined) return;
    const logits = this.extend(pieces, first);
    const values = logits === null ? new Float32Array(0) : await logits.data<'float32'>();
    logits?.dispose();
    const width = this.model.config.vocabSize;
    let row = 0;
    for (const piece of pieces) {
      const rows = values.subarray(row * width, (row + piece.logits) * width);
      row += piece.logits;
      // It may have been cancelled meanwhile.
      if (this.active.includes(piece.active)) this.take(piece, rows, width);
    }
  }

  private extend(pieces: readonly Piece[], { active, tokens }: Piece): tf.Tensor2D | null {
    if (pieces.length === 1 && tokens.length === 1) {
      return tf.tidy(() => this.model.decode(tf.tensor1d(tokens, 'int32'), active.cache));
    }
    return this.model.extendPacked(
      pieces.map(({ active, tokens, logits }) => ({ tokens, cache: active.cache, logits })),
    );
  }

  /** Hands a sequence its rows of logits. */
  private take({ active, tokens, logits }: Piece, rows: Float32Array, width: number): void {
    const { sequence, at } = active;
    const { prompt } = sequence;
    try {
      if (at < prompt.length) {
        active.at += tokens.length;
        sequence.onRead?.(active.at);
        if (active.at === active.cut || active.at === prompt.length) {
          this.options.prefixes?.keep(prompt.subarray(0, active.at), active.cache);
        }
        const firstRow = active.at - logits;
        for (let position = firstRow + 1; position <= active.at && position < prompt.length; position++) {
          if (position < sequence.scoredFrom) continue;
          const from = (position - 1 - firstRow) * width;
          sequence.onPrompt?.(rows.subarray(from, from + width), position);
        }
        if (active.at < prompt.length) return;
      }
      const token = sequence.choose(rows.subarray(rows.length - width));
      if (token === null) {
        this.end(active);
        active.resolve();
      } else active.next = Int32Array.of(token);
    } catch (error) {
      this.fail(active, error);
    }
  }

  private fail(active: Active, error: unknown): void {
    this.end(active);
    active.reject(error);
  }

  private end(active: Active): void {
    const at = this.active.indexOf(active);
    if (at < 0) return;
    this.active.splice(at, 1);
    active.cache.dispose();
  }
}
