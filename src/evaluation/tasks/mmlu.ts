/** The tables `yoco eval-mmlu` writes: one row per question, and one per subject, category and average. */
import { MODEL_COLUMNS } from '../../sweep/model-key.js';
import { LETTERS, type QuestionSet, type Subject } from '../../data/tasks/mmlu.js';
import { MMLU_CATEGORIES } from '../../data/tasks/mmlu-subjects.js';
import type { Column, Row, Schema } from '../../results/schema.js';
import { ACCURACY_COLUMNS } from './accuracy.js';
import { WEIGHTS_COLUMN } from '../candidates.js';
import type { TaskTables } from './run.js';
import type { ItemResult } from './score.js';
import { SHOTS_COLUMNS, VERSION_COLUMN, type SummaryLine } from './summary.js';

const DATA_COLUMN: Column = {
  name: 'data',
  kind: 'key',
  description: 'mmlu, or the name of another question set',
};

const likelihoodColumn = (letter: string): string => `log_likelihood_${letter.toLowerCase()}`;

const MMLU_QUESTIONS: Schema = {
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
      name: likelihoodColumn(letter),
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
    ...SHOTS_COLUMNS,
    VERSION_COLUMN,
    ...ACCURACY_COLUMNS,
  ],
};

export const mmluTables = (set: QuestionSet): TaskTables<Subject> => ({
  items: MMLU_QUESTIONS,
  summary: MMLU_SUMMARY,
  itemKey: ({ name }, question) => ({ data: set.name, subject: name, question }),
  itemCells: questionCells,
  outcomeOf: (row) => ({
    correct: row.correct === 1 ? 1 : 0,
    correctNormalized: null,
    goldLogLikelihood: Number(row[likelihoodColumn(String(row.answer))]),
    shots: Number(row.shots),
  }),
  lines: (subjects) => summaryLines(set, subjects),
});

function questionCells({ item, shots, promptTokens, logLikelihoods, prediction, correct }: ItemResult): Row {
  const likelihoods = LETTERS.map((letter, index) => [
    likelihoodColumn(letter),
    logLikelihoods[index] ?? null,
  ]);
  return {
    answer: LETTERS[item.gold] ?? null,
    prediction: LETTERS[prediction ?? -1] ?? null,
    correct: correct ? 1 : 0,
    shots,
    prompt_tokens: promptTokens,
    ...(Object.fromEntries(likelihoods) as Row),
  };
}

/** Lines for every subject, every category, and the micro and macro averages. */
function summaryLines(set: QuestionSet, subjects: readonly Subject[]): SummaryLine<Subject>[] {
  const line = (level: string, name: string, tasks: readonly Subject[]): SummaryLine<Subject> => ({
    key: { data: set.name, level, name },
    tasks,
    average: 'pooled',
    chance: 1 / LETTERS.length,
  });
  const categories = MMLU_CATEGORIES.map((category) =>
    line(
      'category',
      category,
      subjects.filter((subject) => subject.category === category),
    ),
  ).filter(({ tasks }) => tasks.length > 0);
  return [
    ...subjects.map((subject) => line('subject', subject.name, [subject])),
    ...categories,
    line('average', 'micro', subjects),
    { ...line('average', 'macro', subjects), average: 'macro' },
  ];
}
