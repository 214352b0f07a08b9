/** The tokens of a `tokenizer.json`: their ids, and which characters are neighbours in a token. */
import { RunError } from '../../errors.js';
import { isFields, type Fields } from './json.js';
import type { AddedToken } from './library/protocol.js';
import { wholeCharacters } from './characters.js';

/** The largest vocabularies in use have 262,144 tokens, some experiments a million. */
const MOST_TOKENS = 2 ** 21;
/** Ids may leave this many unused, and as many again as there are tokens. */
const UNUSED_IDS = 65536;

export class Vocabulary {
  /** One more than the largest id. */
  readonly size: number;
  private texts: Map<number, string> | null = null;
  private neighbours: Set<string> | null = null;

  private constructor(
    private readonly model: Fields,
    private readonly ids: ReadonlyMap<string, number>,
    readonly added: readonly (AddedToken & { readonly special: boolean })[],
  ) {
    let largest = -1;
    for (const id of ids.values()) largest = Math.max(largest, id);
    this.size = largest + 1;
  }

  /** @throws RunError for ids that are none or leave large gaps, and for what would make ids random */
  static of(file: string, description: Fields): Vocabulary {
    const { model } = description;
    if (!isFields(model))
      throw new RunError(`${file}: not a tokenizer this program can use (it has no 'model')`);
    if (typeof model.dropout === 'number' && model.dropout > 0) {
      throw new RunError(
        `${file}: its model has dropout ${model.dropout}, with which a text has other ids each time: set it to null`,
      );
    }
    const ids = modelIds(file, model);
    const added = addedTokens(file, description.added_tokens);
    for (const { content, id } of added) ids.set(content, id);
    const vocabulary = new Vocabulary(model, ids, added);
    if (ids.size === 0) throw new RunError(`${file}: its vocabulary is empty`);
    if (vocabulary.size > 2 * ids.size + UNUSED_IDS) {
      throw new RunError(
        `${file}: ${ids.size} tokens have ids up to ${vocabulary.size - 1}, which is no vocabulary`,
      );
    }
    return vocabulary;
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  /**
   * Whether no merge can join two neighbouring tokens of one word: no token has the last character of the one beside the
   * first of the other. Only byte-pair encoding is known to allow that.
   */
  canCut(before: number, after: number): boolean {
    const {
      type,
      byte_fallback: fallback,
      continuing_subword_prefix: prefix,
      unk_token: unknown,
    } = this.model;
    if ((type !== undefined && type !== 'BPE') || !('merges' in this.model)) return false;
    if (typeof prefix === 'string' && prefix !== '') return false;
    this.texts ??= new Map([...this.ids].map(([token, id]) => [id, token]));
    const [left, right] = [this.texts.get(before), this.texts.get(after)];
    if (left === undefined || right === undefined || left === unknown || right === unknown) return false;
    const isByte = (token: string): boolean => fallback === true && /^<0x[0-9A-F]{2}>$/.test(token);
    if (isByte(left) || isByte(right)) return false;
    this.neighbours ??= neighboursIn(this.ids.keys());
    return !this.neighbours.has(lastCharacter(left) + firstCharacter(right));
  }
}

const firstCharacter = (token: string): string => String.fromCodePoint(token.codePointAt(0) ?? 0);
const lastCharacter = (token: string): string => token.slice(wholeCharacters(token, token.length - 1));

/** All pairs of neighbouring characters. */
function neighboursIn(tokens: Iterable<string>): Set<string> {
  const pairs = new Set<string>();
  for (const token of tokens) {
    let before = '';
    for (const character of token) {
      if (before !== '') pairs.add(before + character);
      before = character;
    }
  }
  return pairs;
}

function checkId(file: string, token: string, id: unknown): number {
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < 2 ** 31) return id;
  throw new RunError(
    `${file}: not a tokenizer this program can use (token ${JSON.stringify(token.slice(0, 40))} has id ${JSON.stringify(id)})`,
  );
}

/** `vocab` is an object from tokens to ids or, for Unigram, a list of tokens with their scores. */
function modelIds(file: string, { vocab }: Fields): Map<string, number> {
  const ids = new Map<string, number>();
  const count = isFields(vocab) ? Object.keys(vocab).length : Array.isArray(vocab) ? vocab.length : 0;
  if (count > MOST_TOKENS)
    throw new RunError(
      `${file}: refused: its vocabulary has ${count} tokens, at most ${MOST_TOKENS} are read`,
    );
  if (Array.isArray(vocab)) {
    for (const [id, entry] of (vocab as readonly unknown[]).entries()) {
      const token: unknown = Array.isArray(entry) ? entry[0] : undefined;
      if (typeof token !== 'string') throw new RunError(`${file}: entry ${id} of its vocabulary is no token`);
      if (!ids.has(token)) ids.set(token, id);
    }
    return ids;
  }
  if (!isFields(vocab))
    throw new RunError(`${file}: not a tokenizer this program can use (it has no vocabulary)`);
  for (const [token, id] of Object.entries(vocab)) ids.set(token, checkId(file, token, id));
  return ids;
}

function addedTokens(file: string, list: unknown): (AddedToken & { special: boolean })[] {
  if (list === undefined || list === null) return [];
  if (!Array.isArray(list)) throw new RunError(`${file}: its 'added_tokens' is not a list`);
  return (list as readonly unknown[]).map((entry) => {
    if (!isFields(entry) || typeof entry.content !== 'string') {
      throw new RunError(`${file}: one of its 'added_tokens' has no 'content'`);
    }
    return {
      content: entry.content,
      id: checkId(file, entry.content, entry.id),
      special: entry.special === true,
    };
  });
}
