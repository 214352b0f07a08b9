/**
 * The tokenizer in a GGUF file, as the `tokenizer.json` that gives the same ids. It is kept in the cache folder, under the hash
 * of its content, so that everything that takes a tokenizer's file can read it.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TokenIds } from '../../data/tokenizers/conventions.js';
import { cacheFolder } from '../../files/cache.js';
import { makeDirectory, writeFileAtomic } from '../../files/write.js';
import type { GgufFile } from '../gguf/file.js';
import { shown, type GgufMetadata } from '../gguf/header.js';
import { SPLITTERS } from './gguf-splitters.js';

type Json = Readonly<Record<string, unknown>>;

/** Types of tokens in `tokenizer.ggml.token_type`. */
export const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

const PREFIX = 'tokenizer.ggml.';

/** What a file says of its tokenizer, checked; or why it cannot be used. */
interface Given {
  readonly tokens: readonly string[];
  readonly typeOf: (id: number) => number;
  readonly metadata: GgufMetadata;
}

class Unusable extends Error {}

const isTexts = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

function numbers(metadata: GgufMetadata, name: string, count: number): ArrayLike<number> | null {
  const value = metadata.get(PREFIX + name);
  if (value === undefined) return null;
  const isList = typeof value === 'object' && !isTexts(value);
  if (!isList || value.length !== count) throw new Unusable(`its ${name} are not one number a token`);
  return value;
}

function given(metadata: GgufMetadata): Given {
  const tokens = metadata.get(`${PREFIX}tokens`);
  if (!isTexts(tokens)) throw new Unusable('it has no list of tokens');
  if (new Set(tokens).size !== tokens.length) throw new Unusable('a token occurs twice');
  const types = numbers(metadata, 'token_type', tokens.length);
  return { tokens, metadata, typeOf: (id) => types?.[id] ?? TOKEN_TYPES.normal };
}

const idIn = (metadata: GgufMetadata, name: string): number | null => {
  const id = metadata.get(`${PREFIX}${name}_token_id`);
  return typeof id === 'number' && Number.isSafeInteger(id) && id >= 0 && id < 0xffffffff ? id : null;
};

/** Ids that the file names; the end of a turn ends generation too. */
export function readTokenIdsOf({ metadata }: GgufFile): TokenIds {
  const end = ['eos', 'eot'].map((name) => idIn(metadata, name)).filter((id) => id !== null);
  return { begin: idIn(metadata, 'bos'), end: [...new Set(end)], padding: idIn(metadata, 'padding') };
}

function addedTokens({ tokens, typeOf }: Given): Json[] {
  const { unknown, control, userDefined } = TOKEN_TYPES;
  return tokens.flatMap((content, id) => {
    const type = typeOf(id);
    if (type !== unknown && type !== control && type !== userDefined) return [];
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    return [{ id, content, ...flags, special: type !== userDefined }];
  });
}

/** Puts the token that begins a text before it, where the file says so. @param usual whether, where the file does not say */
function template({ tokens, metadata }: Given, usual: boolean): Json | null {
  const begin = idIn(metadata, 'bos');
  const token = begin === null ? undefined : tokens[begin];
  const adds = metadata.get(`${PREFIX}add_bos_token`) ?? usual;
  if (adds !== true || begin === null || token === undefined) return null;
  const special = { SpecialToken: { id: token, type_id: 0 } };
  return {
    type: 'TemplateProcessing',
    single: [special, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [special, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: { [token]: { id: token, ids: [begin], tokens: [token] } },
  };
}

const vocabulary = ({ tokens }: Given): Json => Object.fromEntries(tokens.map((token, id) => [token, id]));

/** Byte-level BPE, `gpt2`: merges are in the file, how words are cut has a name. */
function byteLevel(file: Given): Json {
  const { metadata } = file;
  const name = metadata.get(`${PREFIX}pre`);
  const splitter = SPLITTERS.find(({ names }) => names.some((one) => one === name));
  if (splitter === undefined) {
    const known = SPLITTERS.flatMap(({ names }) => names).join(', ');
    throw new Unusable(`how it cuts words, ${shown(name)}, is not known (${known})`);
  }
  const merges = metadata.get(`${PREFIX}merges`);
  if (!isTexts(merges)) throw new Unusable('it has no list of merges');
  return {
    normalizer: splitter.normalizer,
    pre_tokenizer: splitter.pre,
    post_processor: template(file, splitter.begins),
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      ...{ type: 'BPE', dropout: null, unk_token: null, fuse_unk: false, byte_fallback: false },
      ...{ continuing_subword_prefix: null, end_of_word_suffix: null, ignore_merges: splitter.ignoreMerges },
      vocab: vocabulary(file),
      merges: merges.map((merge) => {
        const at = merge.indexOf(' ', 1);
        return [merge.slice(0, at), merge.slice(at + 1)];
      }),
    },
  };
}

/** Every way to make a token of two, the best scores first; ties as transformers breaks them (convert_slow_tokenizer.py). */
export function mergesOf(tokens: readonly string[], scores: ArrayLike<number>): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const found: { pair: [string, string]; score: number; left: number; right: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    const characters = Array.from(token);
    const own = characters.flatMap((_, cut) => {
      const pair: [string, string] = [characters.slice(0, cut).join(''), characters.slice(cut).join('')];
      const [left, right] = pair.map((part) => ids.get(part));
      return cut === 0 || left === undefined || right === undefined ? [] : [{ pair, left, right }];
    });
    own.sort((a, b) => a.left - b.left || a.right - b.right);
    for (const merge of own) found.push({ ...merge, score: scores[id] ?? 0 });
  }
  const length = (text: string): number => Array.from(text).length;
  found.sort(
    (a, b) =>
      b.score - a.score || length(b.pair[0]) - length(a.pair[0]) || length(b.pair[1]) - length(a.pair[1]),
  );
  return found.map(({ pair }) => pair);
}

/** SentencePiece's BPE, `llama`: the pair that makes the token of the best score is joined first. */
function sentencePiece(file: Given): Json {
  const { tokens, metadata, typeOf } = file;
  const scores = numbers(metadata, 'scores', tokens.length);
  if (scores === null) throw new Unusable('it has no scores');
  const joined = tokens.map((token, id) => (typeOf(id) === TOKEN_TYPES.normal ? token : ''));
  const prepends = metadata.get(`${PREFIX}add_space_prefix`) !== false;
  const unknown = tokens[idIn(metadata, 'unknown') ?? 0] ?? null;
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  return {
    normalizer: {
      type: 'Sequence',
      normalizers: [...(prepends ? [{ type: 'Prepend', prepend: '▁' }] : []), spaces],
    },
    pre_tokenizer: null,
    post_processor: template(file, true),
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prepends ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      ...{ type: 'BPE', dropout: null, unk_token: unknown, fuse_unk: true, byte_fallback: true },
      ...{ continuing_subword_prefix: null, end_of_word_suffix: null, ignore_merges: false },
      vocab: vocabulary(file),
      merges: mergesOf(joined, scores),
    },
  };
}

function describe(metadata: GgufMetadata): Json {
  const file = given(metadata);
  const model = metadata.get(`${PREFIX}model`);
  const kinds: Readonly<Record<string, (file: Given) => Json>> = { gpt2: byteLevel, llama: sentencePiece };
  const read = typeof model === 'string' ? kinds[model] : undefined;
  if (read === undefined) throw new Unusable(`its kind is ${shown(model)}, read are gpt2 and llama`);
  return { version: '1.0', truncation: null, padding: null, added_tokens: addedTokens(file), ...read(file) };
}

/** The files beside `tokenizer.json` that name tokens. */
function conventions(source: GgufFile): Json {
  const { begin, end, padding } = readTokenIdsOf(source);
  return {
    ...(begin === null ? {} : { bos_token_id: begin }),
    ...(end.length === 0 ? {} : { eos_token_id: end }),
    ...(padding === null ? {} : { pad_token_id: padding }),
  };
}

/**
 * The path of the file's tokenizer as a `tokenizer.json`; null, with a remark that says why, where it has none that is read.
 * @throws OutputError where the cache folder cannot be written
 */
export function keepTokenizer(source: GgufFile): { tokenizer: string | null; remarks: readonly string[] } {
  const model = source.metadata.get(`${PREFIX}model`);
  if (model === undefined || model === 'none' || model === 'no_vocab')
    return { tokenizer: null, remarks: [] };
  let files: readonly (readonly [name: string, text: string])[];
  try {
    files = [
      ['generation_config.json', JSON.stringify(conventions(source))],
      ['tokenizer.json', JSON.stringify(describe(source.metadata))],
    ];
  } catch (error) {
    if (!(error instanceof Unusable)) throw error;
    const remark = `${source.path}: its tokenizer is not used: ${error.message}; name one by --tokenizer FILE`;
    return { tokenizer: null, remarks: [remark] };
  }
  const hash = createHash('sha256').update(files.map(([, text]) => text).join('\n'));
  const directory = join(cacheFolder('gguf'), hash.digest('hex').slice(0, 32));
  // The last file stands for all.
  const path = join(directory, 'tokenizer.json');
  if (!existsSync(path)) makeDirectory(directory);
  if (!existsSync(path)) for (const [name, text] of files) writeFileAtomic(join(directory, name), text);
  return { tokenizer: path, remarks: [] };
}
