/**
 * The text of a layout: words separated by spaces, `N*word` for one N times, `N*(words)` for several in turn, such as
 * `6*gated-retention memory 6*cross` or `4*(attention 2*cross)`.
 */
import { UsageError } from '../errors.js';
import type { LayoutWord } from './layouts.js';
import { MIXER_NAMES } from './mixers/list.js';

/** Layers that nobody asks for: what a slip of the pen would otherwise allocate. */
const MOST_WORDS = 4096;

const WORDS: readonly LayoutWord[] = [...MIXER_NAMES, 'memory', 'embeddings'];

/** @throws UsageError naming what was expected where */
export function parseLayout(text: string): LayoutWord[] {
  const tokens = text.match(/\d+\*|[()]|[^\s()*]+|\*/g) ?? [];
  let at = 0;
  const fail = (expected: string): never => {
    const found = tokens[at] === undefined ? 'its end' : `'${tokens[at]}'`;
    throw new UsageError(`layout '${text}': expected ${expected}, found ${found}`);
  };

  const tooMany = (): UsageError => new UsageError(`layout '${text}': more than ${MOST_WORDS} parts`);

  const sequence = (isInner: boolean): LayoutWord[] => {
    const words: LayoutWord[] = [];
    while (at < tokens.length && tokens[at] !== ')') {
      words.push(...item());
      if (words.length > MOST_WORDS) throw tooMany();
    }
    if (!isInner && at < tokens.length) fail('a word');
    if (words.length === 0) fail(`one of ${WORDS.join(', ')}`);
    return words;
  };
  const item = (): LayoutWord[] => {
    const token = tokens[at] as string;
    if (/^\d+\*$/.test(token)) {
      const times = Number.parseInt(token);
      if (times < 1 || times > MOST_WORDS) fail(`a count from 1 to ${MOST_WORDS}`);
      at++;
      const words = at < tokens.length ? unit() : fail('a word or a bracket');
      if (times * words.length > MOST_WORDS) throw tooMany();
      return Array.from({ length: times }, () => words).flat();
    }
    return unit();
  };
  const unit = (): LayoutWord[] => {
    if (tokens[at] === '(') {
      at++;
      const words = sequence(true);
      if (tokens[at] !== ')') fail("')'");
      at++;
      return words;
    }
    const word = WORDS.find((candidate) => candidate === tokens[at]);
    if (word === undefined) return fail(`one of ${WORDS.join(', ')}`);
    at++;
    return [word];
  };
  return sequence(false);
}

/** The text of a layout, in which equal neighbours are counted and what repeats is in brackets: how results call it. */
export function formatLayout(words: readonly LayoutWord[]): string {
  const runs: { word: LayoutWord; count: number }[] = [];
  for (const word of words) {
    const last = runs.at(-1);
    if (last?.word === word) last.count++;
    else runs.push({ word, count: 1 });
  }
  return bracketed(runs.map(({ word, count }) => (count === 1 ? word : `${count}*${word}`)));
}

/** Texts in which two or more that come again and again are one bracket. */
function bracketed(texts: readonly string[]): string {
  const parts: string[] = [];
  for (let at = 0; at < texts.length;) {
    const { period, times } = repetition(texts, at);
    const part = texts.slice(at, at + period).join(' ');
    parts.push(times === 1 ? part : `${times}*(${part})`);
    at += times * period;
  }
  return parts.join(' ');
}

/** The repetition from `at` on that covers most. */
function repetition(texts: readonly string[], at: number): { period: number; times: number } {
  let best = { period: 1, times: 1 };
  for (let period = 2; at + 2 * period <= texts.length; period++) {
    let end = at + period;
    while (end < texts.length && texts[end] === texts[end - period]) end++;
    const times = Math.floor((end - at) / period);
    if (times > 1 && times * period > best.times * best.period) best = { period, times };
  }
  return best;
}
