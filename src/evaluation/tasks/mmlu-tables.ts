/** The tables `yoco eval-mmlu` writes: one row per question, and one per subject, category and average. */
import { MODEL_COLUMNS } from '../../sweep/model-key.js';
import { LETTERS, type QuestionSet } from '../../data/tasks/mmlu.js';
import type { Column, Row, Schema } from '../../results/schema.js';
import { ACCURACY_COLUMNS } from './accuracy.js';
import { WEIGHTS_COLUMN } from '../candidates.js';
import type { RowsByUnit } from './item-sweep.js';
import type { QuestionResult } from './mmlu.js';

const DATA_COLUMN: Column = {
  name: 'data',
  kind: 'key',
  description: 'mmlu, or the name of another question set',
};

export const MMLU_QUESTIONS: Schema = {
  name: 'eval-mmlu-questions',
  columns: [
    ...MODEL_COLUMNS,
    DATA_COLUMN,
    { name: 'subject', kind: 'key', description: 'subject' },
    { name: 'question', kind: 'key', description: "row of the subject's file, from 0" },
    { name: 'answer', kind: 'result', description: 'the right letter' },
    { name: 'prediction', kind: 'result', description: 'the likeliest letter' },
    { name: 'correct', kind: 'result', description: '1 if they are the same, else 0' },
    { name: 'shots', kind: 'result', description: 'examples in the prompt' },
    { name: 'prompt_tokens', kind: 'result', description: 'tokens before the letter', display: 'count' },
    ...LETTERS.map((letter): Column => ({
      name: `log_likelihood_${letter.toLowerCase()}`,
      kind: 'result',
      description: `log-likelihood of " ${letter}" in nats`,
      digits: 5,
    })),
  ],
};

export const MMLU_SUMMARY: Schema = {
  name: 'eval-mmlu',
  columns: [
    ...MODEL_COLUMNS,
    DATA_COLUMN,
    { name: 'level', kind: 'key', description: 'subject, category or average' },
    {
      name: 'name',
      kind: 'key',
      description: 'subject or category; micro: mean over questions; macro: over subjects',
    },
    WEIGHTS_COLUMN,
    { name: 'shots', kind: 'result', description: 'examples in a prompt, on average', digits: 3 },
    ...ACCURACY_COLUMNS,
  ],
};

export function questionCells(result: QuestionResult): Row {
  const { question, shots, promptTokens, logLikelihoods, prediction } = result;
  const likelihoods = LETTERS.map((letter, index): [string, number | null] => [
    `log_likelihood_${letter.toLowerCase()}`,
    logLikelihoods[index] ?? null,
  ]);
  return {
    answer: LETTERS[question.answer] ?? null,
    prediction: LETTERS[prediction] ?? null,
    correct: prediction === question.answer ? 1 : 0,
    shots,
    prompt_tokens: promptTokens,
    ...Object.fromEntries(likelihoods),
  };
}

/** Mean number of examples in the prompts that a summary row is about. */
export function meanShots(set: QuestionSet, questions: RowsByUnit, summary: Row): number {
  const concerned = set.subjects.filter(
    ({ name, category }) => summary.level === 'average' || summary.name === name || summary.name === category,
  );
  const shots = concerned.flatMap(({ name }) => (questions.get(name) ?? []).map((row) => Number(row.shots)));
  return shots.reduce((sum, count) => sum + count, 0) / shots.length;
}
