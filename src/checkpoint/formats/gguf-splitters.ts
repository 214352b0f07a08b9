/** How byte-level tokenizers cut a text into words, by the names of `tokenizer.ggml.pre` (llama.cpp, llama-vocab.cpp). */

type Json = Readonly<Record<string, unknown>>;

export interface Splitter {
  /** The names that llama.cpp takes for it; the first is written. */
  readonly names: readonly string[];
  readonly normalizer: Json | null;
  readonly pre: Json;
  /** Whether the begin of a text is marked where the file does not say. */
  readonly begins: boolean;
  /** A word that is a token is taken as it is. */
  readonly ignoreMerges: boolean;
}

const BYTES = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };

const words = (expression: string): Json => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: expression }, behavior: 'Isolated', invert: false },
    BYTES,
  ],
});

const after = (numbers: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

export const SPLITTERS: readonly Splitter[] = [
  {
    names: ['gpt-2'],
    normalizer: null,
    pre: { ...BYTES, use_regex: true },
    begins: false,
    ignoreMerges: false,
  },
  {
    names: ['llama-bpe', 'llama3', 'llama-v3'],
    normalizer: null,
    pre: words(after('\\p{N}{1,3}')),
    begins: true,
    ignoreMerges: true,
  },
  {
    names: ['qwen2'],
    normalizer: { type: 'NFC' },
    pre: words(after('\\p{N}')),
    begins: false,
    ignoreMerges: false,
  },
  {
    names: ['smollm'],
    normalizer: null,
    pre: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { ...BYTES, use_regex: true },
      ],
    },
    begins: false,
    ignoreMerges: false,
  },
];
