/** Tokenizers that tests build. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { byteCharacters } from '../../../src/data/tokenizers/bpe-trainer.js';

export type Description = Record<string, unknown>;

const LETTERS = Array.from('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?\'"-');
/** Merges in the order of their ranks; every part is a letter or an earlier merge. */
const MERGES =
  'h e|t he|▁ the|▁ a|i n|o n|▁ d|o g|▁d og|▁ ▁|▁▁ ▁▁|e r|r a|ra n|▁ ran|l i|t t|li tt|l e|litt le|▁ little';

const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };

export const addedToken = (id: number, content: string, more: Description = {}): Description => ({
  ...{ id, content },
  ...flags,
  ...more,
});

/** Like Llama 2's: a space is put before every text, spaces become `▁`, and there are no words. */
export function llamaLike(overrides: Description = {}): Description {
  const merges = MERGES.split('|').map((merge) => merge.split(' '));
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, '▁', ...LETTERS, ...merges.map((pair) => pair.join(''))];
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [addedToken(0, '<unk>'), addedToken(1, '<s>'), addedToken(2, '</s>')],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: template(['<s>', 1]),
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
    ...overrides,
  };
}

/** Like GPT-2's: bytes, words by an expression, one special token. */
export function byteLevel(overrides: Description = {}): Description {
  const pre = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const merges = [
    ['h', 'e'],
    ['t', 'he'],
    ['Ġ', 'the'],
    ['Ġ', 'a'],
    ['i', 'n'],
    ['d', 'o'],
    ['Ġ', 'do'],
    ['Ġdo', 'g'],
  ];
  const tokens = [
    '<|endoftext|>',
    ...byteCharacters(),
    ...merges.map((pair) => pair.join('')),
    '<bos>',
    '<eot>',
  ];
  const idOf = (token: string): number => tokens.indexOf(token);
  return {
    version: '1.0',
    added_tokens: ['<|endoftext|>', '<bos>', '<eot>'].map((token) => addedToken(idOf(token), token)),
    normalizer: null,
    pre_tokenizer: pre,
    post_processor: null,
    decoder: pre,
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
    ...overrides,
  };
}

/** A template that puts one token before a text, or one after it. */
export function template(
  before: [string, number] | null,
  after: [string, number] | null = null,
): Description {
  const piece = ([id]: [string, number]): Description => ({ SpecialToken: { id, type_id: 0 } });
  const sequence = { Sequence: { id: 'A', type_id: 0 } };
  const single = [...(before ? [piece(before)] : []), sequence, ...(after ? [piece(after)] : [])];
  const special = [before, after].filter((token) => token !== null);
  return {
    type: 'TemplateProcessing',
    single,
    pair: [...single, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: Object.fromEntries(
      special.map(([token, id]) => [token, { id: token, ids: [id], tokens: [token] }]),
    ),
  };
}

/** Writes a tokenizer and the files beside it. @returns the path of the tokenizer */
export function writeFiles(
  directory: string,
  description: Description,
  beside: Readonly<Record<string, unknown>> = {},
): string {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'tokenizer.json');
  writeFileSync(file, JSON.stringify(description));
  for (const [name, content] of Object.entries(beside)) {
    writeFileSync(join(directory, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return file;
}
