/** A tokenizer as the metadata of a GGUF file. */
import { isTokenizerName } from '../../data/tokenizer.js';
import { isFields, readFields, type Fields } from '../../data/tokenizers/json.js';
import type { GgufField } from '../gguf/writer.js';
import type { Checkpoint } from './format.js';
import { SPLITTERS } from './gguf-splitters.js';
import { mergesOf, TOKEN_TYPES } from './gguf-tokenizer.js';
import { tokenIdsOf } from './tokenizer-files.js';

const key = (name: string): string => `tokenizer.ggml.${name}`;
/** llama.cpp runs a model without a vocabulary on ids. */
const NONE: readonly GgufField[] = [{ key: key('model'), type: 'text', value: 'none' }];

/** Fields that do not change what a part does, so that parts are compared without them. */
const WITHOUT_EFFECT = new Set(['trim_offsets', 'invert']);

/** A description in which equal parts have equal texts. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (!isFields(value)) return value;
  const kept = Object.entries(value).filter(([name]) => !WITHOUT_EFFECT.has(name));
  return Object.fromEntries(
    kept.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, item]) => [name, canonical(item)]),
  );
}

const isSame = (a: unknown, b: unknown): boolean =>
  JSON.stringify(canonical(a ?? null)) === JSON.stringify(canonical(b ?? null));

const pairsOf = (merges: unknown): [string, string][] =>
  (Array.isArray(merges) ? merges : []).map((merge: unknown) => {
    if (Array.isArray(merge)) return merge as [string, string];
    const text = String(merge);
    const at = text.indexOf(' ', 1);
    return [text.slice(0, at), text.slice(at + 1)];
  });

interface Parts {
  readonly description: Fields;
  readonly tokens: readonly string[];
  readonly types: number[];
  readonly merges: readonly [string, string][];
}

/** Tokens by id, `[PADn]` where the model has more. */
function partsOf(description: Fields, vocabSize: number): Parts | null {
  const { model, added_tokens: added } = description;
  if (!isFields(model) || model.type !== 'BPE' || !isFields(model.vocab)) return null;
  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const types = tokens.map((): number => TOKEN_TYPES.unused);
  for (const [token, id] of Object.entries(model.vocab)) {
    if (typeof id !== 'number' || id >= vocabSize) return null;
    tokens[id] = token;
    const isByte = model.byte_fallback === true && /^<0x[0-9A-F]{2}>$/.test(token);
    types[id] = isByte
      ? TOKEN_TYPES.byte
      : token === model.unk_token
        ? TOKEN_TYPES.unknown
        : TOKEN_TYPES.normal;
  }
  for (const token of Array.isArray(added) ? added.filter(isFields) : []) {
    const { id, content, special } = token;
    if (typeof id !== 'number' || typeof content !== 'string' || id >= vocabSize) return null;
    tokens[id] = content;
    if (types[id] !== TOKEN_TYPES.unknown) {
      types[id] = special === true ? TOKEN_TYPES.control : TOKEN_TYPES.userDefined;
    }
  }
  return { description, tokens, types, merges: pairsOf(model.merges) };
}

function byteLevel({ description, merges }: Parts): GgufField[] | null {
  const splitter = SPLITTERS.find(
    ({ pre, normalizer }) =>
      isSame(pre, description.pre_tokenizer) && isSame(normalizer, description.normalizer),
  );
  if (splitter === undefined) return null;
  return [
    { key: key('model'), type: 'text', value: 'gpt2' },
    { key: key('pre'), type: 'text', value: splitter.names[0] ?? '' },
    { key: key('merges'), type: 'texts', value: merges.map((pair) => pair.join(' ')) },
  ];
}

/**
 * SentencePiece's scores give a token one rank, whatever two it is made of. A list of merges is the same only where it has every
 * way to make a token, one after the other.
 */
function sentencePiece({ description, tokens, types, merges }: Parts): GgufField[] | null {
  const { model, normalizer, pre_tokenizer: pre } = description;
  if (!isFields(model) || model.byte_fallback !== true || (pre ?? null) !== null) return null;
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const prepending = { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, spaces] };
  const prepends = isSame(normalizer, prepending);
  if (!prepends && !isSame(normalizer, spaces)) return null;
  const ranks = new Map<string, number>();
  for (const pair of merges) if (!ranks.has(pair.join(''))) ranks.set(pair.join(''), ranks.size);
  const scores = tokens.map((token) => -(ranks.get(token) ?? ranks.size));
  const normal = tokens.map((token, id) => (types[id] === TOKEN_TYPES.normal ? token : ''));
  if (!isSame(mergesOf(normal, scores), merges)) return null;
  return [
    { key: key('model'), type: 'text', value: 'llama' },
    { key: key('pre'), type: 'text', value: 'default' },
    { key: key('scores'), type: 'f32s', value: scores },
    { key: key('add_space_prefix'), type: 'bool', value: prepends },
  ];
}

function kindFields(file: string, vocabSize: number): GgufField[] | null {
  const parts = partsOf(readFields(file), vocabSize);
  const kind = parts && (byteLevel(parts) ?? sentencePiece(parts));
  if (parts === null || kind === null) return null;
  return [
    ...kind,
    { key: key('tokens'), type: 'texts', value: parts.tokens },
    { key: key('token_type'), type: 'i32s', value: parts.types },
  ];
}

/** Whether `tokenizerFields` leaves the tokenizer of a checkpoint out, as one that GGUF cannot say. */
export function isLeftOut({ tokenizer, config }: Pick<Checkpoint, 'tokenizer' | 'config'>): boolean {
  return (
    tokenizer !== null && (isTokenizerName(tokenizer) || kindFields(tokenizer, config.vocabSize) === null)
  );
}

/** The fields of a checkpoint's tokenizer; of one that GGUF cannot say, those of a model without a vocabulary. */
export async function tokenizerFields({
  tokenizer,
  tokens,
  config,
}: Checkpoint): Promise<readonly GgufField[]> {
  if (tokenizer === null || isTokenizerName(tokenizer)) return NONE;
  const fields = kindFields(tokenizer, config.vocabSize);
  if (fields === null) return NONE;
  const { begin, end, padding } = await tokenIdsOf(tokenizer, tokens);
  const ids = { bos: begin, eos: end[0] ?? null, eot: end[1] ?? null, padding };
  return [
    ...fields,
    ...Object.entries(ids).flatMap(([name, value]): GgufField[] =>
      value === null ? [] : [{ key: key(`${name}_token_id`), type: 'u32', value }],
    ),
    { key: key('add_bos_token'), type: 'bool', value: begin !== null },
  ];
}
