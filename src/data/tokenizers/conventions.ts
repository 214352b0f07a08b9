/**
 * Which tokens begin and end a text, pad it, and stop generation. Several files beside a tokenizer name them; they are read
 * in the order in which transformers (version 4, which wrote most published files) reads them:
 *
 * - the names of tokens: `tokenizer_config.json`; where that has no `added_tokens_decoder`, `special_tokens_map.json` first;
 * - what is put before a text: `add_bos_token` for the tokenizer classes that build their own template
 *   (Llama, Code Llama, Gemma, Cohere), by default true; for all others the template in `tokenizer.json`;
 * - ids that stop generation: `eos_token_id` of `generation_config.json`, else of `config.json`, else the end token.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { RunError } from '../../errors.js';
import { isFields, readFields, type Fields } from './json.js';
import { surroundings } from './template.js';

/** A token, or several, and the file and field that name it. */
export interface Origin {
  readonly what: 'begin of text' | 'end of text' | 'padding' | 'stop';
  readonly ids: readonly number[];
  readonly from: string;
}

export interface TokenConventions {
  /** Put before every text. */
  readonly beginOfText: number | null;
  /** Ends a document. */
  readonly endOfText: number | null;
  readonly padding: number | null;
  /** Any of these ends generation. */
  readonly stopTokens: readonly number[];
  readonly origins: readonly Origin[];
}

/** Ids that a model's files name; an empty list or null where they do not. */
export interface TokenIds {
  readonly begin: number | null;
  readonly end: readonly number[];
  readonly padding: number | null;
}

/** Classes of transformers that replace the template of `tokenizer.json` by their own. */
const OWN_TEMPLATE = new Set(['LlamaTokenizer', 'CodeLlamaTokenizer', 'GemmaTokenizer', 'CohereTokenizer']);
/** The names Llama's classes give their tokens where the files name none. */
const LLAMA_CLASSES = new Set(['LlamaTokenizer', 'CodeLlamaTokenizer']);
/** End tokens by convention, for a `tokenizer.json` that lies alone. */
const USUAL_END_TOKENS = ['<|endoftext|>', '<|end_of_text|>', '</s>', '<eos>'];

const GENERATION = 'generation_config.json';
const MODEL = 'config.json';

/**
 * What `tokenizer_config.json` changes in a `tokenizer.json` when transformers loads both: `add_prefix_space` is that of the
 * byte-level pre-tokenizer, and tokens that only `added_tokens_decoder` lists are added.
 * @throws RunError where the two contradict each other in a way that leaves open which holds
 */
export function amendDescription(file: string, description: Fields): Fields {
  const config = readBeside(dirname(file), 'tokenizer_config.json');
  return addTokens(file, withPrefixSpace(file, description, config), config);
}

function withPrefixSpace(file: string, description: Fields, { add_prefix_space: prefix }: Fields): Fields {
  if (typeof prefix !== 'boolean') return description;
  const { pre_tokenizer: splitter } = description;
  if (isFields(splitter) && splitter.type === 'ByteLevel') {
    return { ...description, pre_tokenizer: { ...splitter, add_prefix_space: prefix } };
  }
  if (prefix || !prepends(description)) return description;
  throw new RunError(
    `${file} puts a space before a text, tokenizer_config.json beside it says add_prefix_space false: remove what does not hold`,
  );
}

/** Whether the normalizer or the pre-tokenizer puts a space before every text. */
function prepends({ normalizer, pre_tokenizer: splitter }: Fields): boolean {
  const steps = [normalizer, splitter].filter(isFields).flatMap((step) => {
    const inner: unknown = step.normalizers ?? step.pretokenizers;
    return Array.isArray(inner) ? inner.filter(isFields) : [step];
  });
  return steps.some(
    ({ type, prepend_scheme: scheme, add_prefix_space: added }) =>
      type === 'Prepend' ||
      (type === 'Metaspace' && (scheme ?? (added === false ? 'never' : 'always')) !== 'never'),
  );
}

function addTokens(file: string, description: Fields, { added_tokens_decoder: decoder }: Fields): Fields {
  if (!isFields(decoder)) return description;
  const known = Array.isArray(description.added_tokens) ? description.added_tokens.filter(isFields) : [];
  const { model } = description;
  const vocabulary = isFields(model) && isFields(model.vocab) ? model.vocab : {};
  const has = (content: unknown): boolean =>
    (typeof content === 'string' && content in vocabulary) ||
    known.some((token) => token.content === content);
  const missing = Object.entries(decoder)
    .map(([id, token]): Fields & { id: number } => ({
      ...(isFields(token) ? token : {}),
      id: Number(id),
    }))
    .filter(({ content }) => !has(content))
    .sort((a, b) => a.id - b.id);
  const bad = missing.find(
    ({ id, content }) => typeof content !== 'string' || !Number.isSafeInteger(id) || id < 0,
  );
  if (bad !== undefined) {
    throw new RunError(
      `${join(dirname(file), 'tokenizer_config.json')}: its added_tokens_decoder is no list of tokens by id`,
    );
  }
  if (missing.length === 0 || (isFields(model) && Array.isArray(model.vocab))) return description;
  return { ...description, added_tokens: [...known, ...missing] };
}

function readBeside(directory: string, name: string): Fields {
  const file = join(directory, name);
  return existsSync(file) ? readFields(file) : {};
}

/**
 * @param file the `tokenizer.json`
 * @param description its content
 * @param idOf the id of a token's text, undefined where the vocabulary lacks it
 * @throws RunError for a named token that the vocabulary lacks, and for more than one token before a text
 */
export function resolveConventions(
  file: string,
  description: Fields,
  idOf: (token: string) => number | undefined,
): TokenConventions {
  const names = new TokenNames(dirname(file), idOf);
  const ids = new IdFields(dirname(file));
  const begin = beginToken(file, description, names);
  const end = names.find('eos_token') ?? first(ids.read('eos_token_id')) ?? usualEnd(idOf);
  const padding = names.find('pad_token', true) ?? first(ids.read('pad_token_id'));
  const stop = ids.read('eos_token_id') ?? end;
  const origins = [
    begin && { what: 'begin of text' as const, ...begin },
    end && { what: 'end of text' as const, ...end },
    padding && { what: 'padding' as const, ...padding },
    stop && { what: 'stop' as const, ...stop },
  ].filter((origin) => origin !== null);
  return {
    beginOfText: begin?.ids[0] ?? null,
    endOfText: end?.ids[0] ?? null,
    padding: padding?.ids[0] ?? null,
    stopTokens: stop?.ids ?? [],
    origins,
  };
}

interface Found {
  readonly ids: readonly number[];
  readonly from: string;
}

const first = (found: Found | null): Found | null =>
  found === null ? null : { ...found, ids: found.ids.slice(0, 1) };

function usualEnd(idOf: (token: string) => number | undefined): Found | null {
  const token = USUAL_END_TOKENS.find((name) => idOf(name) !== undefined);
  const id = token === undefined ? undefined : idOf(token);
  return id === undefined ? null : { ids: [id], from: `the usual name ${String(token)}` };
}

function beginToken(file: string, description: Fields, names: TokenNames): Found | null {
  if (OWN_TEMPLATE.has(names.tokenizerClass)) {
    const { add_bos_token: add = true } = names.config;
    if (add !== true) return null;
    const found = names.find('bos_token');
    return found && { ...found, from: `${found.from}, add_bos_token of ${names.tokenizerClass}` };
  }
  const before = surroundings(file, description.post_processor)?.before ?? [];
  if (before.length > 1) {
    throw new RunError(
      `${file}: its template puts ${before.length} tokens (${before.join(', ')}) before a text, but only one is supported`,
    );
  }
  return before.length === 0 ? null : { ids: before, from: 'tokenizer.json: post_processor' };
}

/** The tokens that `tokenizer_config.json` and `special_tokens_map.json` name. */
class TokenNames {
  readonly config: Fields;
  private readonly map: Fields;

  constructor(
    private readonly directory: string,
    private readonly idOf: (token: string) => number | undefined,
  ) {
    this.config = readBeside(directory, 'tokenizer_config.json');
    this.map = readBeside(directory, 'special_tokens_map.json');
  }

  get tokenizerClass(): string {
    const { tokenizer_class: name } = this.config;
    return typeof name === 'string' ? name.replace(/Fast$/, '') : '';
  }

  /** @param optional a name that the vocabulary lacks is passed over */
  find(name: 'bos_token' | 'eos_token' | 'pad_token', optional = false): Found | null {
    const config = [this.config, 'tokenizer_config.json'] as const;
    const map = [this.map, 'special_tokens_map.json'] as const;
    const order = isFields(this.config.added_tokens_decoder) ? [config] : [map, config];
    for (const [fields, file] of order) {
      if (!(name in fields)) continue;
      const value = fields[name];
      const token = isFields(value) ? value.content : value;
      if (typeof token !== 'string') {
        if (token === null) return null;
        throw new RunError(`${join(this.directory, file)}: its '${name}' is not a token`);
      }
      const id = this.idOf(token);
      if (id !== undefined) return { ids: [id], from: `${file}: ${name}` };
      if (optional) return null;
      throw new RunError(
        `${join(this.directory, file)}: its ${name} ${JSON.stringify(token)} is not in the vocabulary of tokenizer.json`,
      );
    }
    return this.classDefault(name);
  }

  private classDefault(name: string): Found | null {
    const token = { bos_token: '<s>', eos_token: '</s>' }[name];
    if (token === undefined || !LLAMA_CLASSES.has(this.tokenizerClass)) return null;
    const id = this.idOf(token);
    return id === undefined ? null : { ids: [id], from: `${name} of ${this.tokenizerClass}` };
  }
}

/** The ids that `generation_config.json` and `config.json` give. */
class IdFields {
  private readonly sources: readonly (readonly [string, Fields])[];

  constructor(private readonly directory: string) {
    this.sources = [GENERATION, MODEL].map((name) => [name, readBeside(directory, name)]);
  }

  read(name: 'bos_token_id' | 'eos_token_id' | 'pad_token_id'): Found | null {
    for (const [file, fields] of this.sources) {
      const value = fields[name];
      if (value === null || value === undefined) continue;
      const all: readonly unknown[] = Array.isArray(value) ? value : [value];
      const isId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= -1;
      if (!all.every(isId)) {
        throw new RunError(`${join(this.directory, file)}: its '${name}' is not an id or a list of ids`);
      }
      // The first conversions of Llama write -1 for none.
      const ids = all.filter((id) => id >= 0);
      if (ids.length > 0) return { ids, from: `${file}: ${name}` };
    }
    return null;
  }
}

/** The ids that the files of a model directory name, for whoever writes them elsewhere. */
export function readTokenIds(directory: string): TokenIds {
  const ids = new IdFields(directory);
  return {
    begin: ids.read('bos_token_id')?.ids[0] ?? null,
    end: ids.read('eos_token_id')?.ids ?? [],
    padding: ids.read('pad_token_id')?.ids[0] ?? null,
  };
}
