/** Parts that several tasks make their sequences of: blocks hidden in noise, then questions with their answers. */
import type { Random } from '../../random.js';
import { drawWord, MARK, wordsOf } from './symbols.js';
import type { RecallExample, RecallOptions, RecallQuestion } from './task.js';

/** A question as tokens, and the tokens that answer it. */
export interface Asked {
  readonly question: readonly number[];
  readonly answer: readonly number[];
}

/** `question` asks for a name: ask NAME is. */
export const askFor = (name: readonly number[], answer: readonly number[]): Asked => ({
  question: [MARK.ask, ...name, MARK.is],
  answer,
});

/** Tokens of questions with their answers. The last token of an answer is predicted only: no input follows it at the end. */
const askedLength = (asked: readonly Asked[]): number =>
  asked.reduce((sum, { question, answer }) => sum + question.length + answer.length, 0) - 1;

/**
 * Blocks in their order at random places in noise, then the questions, each with its answer.
 * The blocks and questions must fit into the length.
 */
export function hideBlocks(
  blocks: readonly (readonly number[])[],
  asked: readonly Asked[],
  { length, vocabSize }: RecallOptions,
  random: Random,
): RecallExample {
  const { noise } = wordsOf(vocabSize);
  const tokens = Int32Array.from({ length }, () => drawWord(noise, random));
  const used = blocks.reduce((sum, block) => sum + block.length, 0);
  const spare = length - askedLength(asked) - used;
  const places = Array.from(blocks, () => random.below(spare + 1)).sort((a, b) => a - b);
  let written = 0;
  blocks.forEach((block, index) => {
    tokens.set(block, (places[index] as number) + written);
    written += block.length;
  });
  return { tokens, questions: writeQuestions(tokens, asked, spare + used) };
}

function writeQuestions(tokens: Int32Array, asked: readonly Asked[], from: number): RecallQuestion[] {
  let at = from;
  return asked.map(({ question, answer }) => {
    const first = at + question.length - 1;
    const text = [...question, ...answer].slice(0, tokens.length - at);
    tokens.set(text, at);
    at += text.length;
    return { positions: answer.map((_, index) => first + index), answers: answer };
  });
}
