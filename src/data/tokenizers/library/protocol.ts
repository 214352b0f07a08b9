/** What the main thread asks of the process that holds Hugging Face's tokenizers library, and what it answers. */

export type LibraryRequest =
  /** Makes a tokenizer of a `tokenizer.json`; `added` are the tokens whose ids the library must agree with. */
  | {
      readonly kind: 'load';
      readonly tokenizer: number;
      readonly json: string;
      readonly added: readonly AddedToken[];
    }
  | { readonly kind: 'encode'; readonly tokenizer: number; readonly texts: readonly string[] }
  /** As `encode`, for one text, with the places of the tokens in its first and last characters. */
  | {
      readonly kind: 'spans';
      readonly tokenizer: number;
      readonly text: string;
      readonly head: number;
      readonly tail: number;
    }
  | { readonly kind: 'decode'; readonly tokenizer: number; readonly ids: Int32Array };

export interface AddedToken {
  readonly content: string;
  readonly id: number;
}

/** Of consecutive tokens: where each begins and ends, in code points of the text, and the word it is in. */
export interface Spans {
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  /** The number of the pre-tokenizer's word; -1 for none. */
  readonly words: Int32Array;
}

export interface SpannedIds {
  readonly ids: Int32Array;
  /** Of the first tokens. */
  readonly head: Spans;
  /** Of the last tokens. */
  readonly tail: Spans;
}

export type LibraryReply =
  | { readonly kind: 'loaded' }
  | { readonly kind: 'encoded'; readonly ids: readonly Int32Array[] }
  | ({ readonly kind: 'spanned' } & SpannedIds)
  | { readonly kind: 'decoded'; readonly text: string }
  /** The library refuses what it was given. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** The process ended; `reason` is what it said last. */
  | { readonly kind: 'ended'; readonly reason: string };
