/** Whether a model answers the questions of sequences, read side by side. */
import type { RecallExample } from '../../data/recall/index.js';
import type { LanguageModel } from '../../model/language-model.js';
import type { ModelCache } from '../../model/state/state-cache.js';
import * as tf from '../../tf.js';
import { scoringChunk } from '../scoring/consume.js';
import { scoreTokens } from '../scoring/token-scores.js';
import { defaultChunkSize } from '../../model/costs.js';

/** An answer token: where it is predicted, and of which question. */
interface Target {
  readonly row: number;
  readonly position: number;
  readonly token: number;
  readonly question: number;
}

/** Sequences of one length: for each the questions, true where every token of the answer is the likeliest. */
export async function answerQuestions(
  model: LanguageModel,
  examples: readonly RecallExample[],
): Promise<boolean[][]> {
  const length = examples[0]?.tokens.length ?? 0;
  const targets = examples.flatMap(targetsOf);
  const right = examples.map(({ questions }) => questions.map(() => true));
  const cache = model.createCache({ batch: examples.length, maxTokens: length });
  try {
    const first = Math.min(...targets.map(({ position }) => position));
    readWithout(model, cache, examples, first);
    const last = Math.max(...targets.map(({ position }) => position));
    const step = Math.max(1, Math.floor(scoringChunk(model.config) / examples.length));
    for (let from = first; from <= last; from += step) {
      const to = Math.min(from + step, last + 1);
      const within = targets.filter(({ position }) => position >= from && position < to);
      const verdicts = await verdictsOf(model, cache, examples, { from, to, targets: within });
      within.forEach(({ row, question }, index) => {
        if (verdicts[index] !== true) (right[row] as boolean[])[question] = false;
      });
    }
  } finally {
    cache.dispose();
  }
  return right;
}

function targetsOf({ questions }: RecallExample, row: number): Target[] {
  return questions.flatMap(({ positions, answers }, question) =>
    positions.map((position, index) => ({ row, position, question, token: answers[index] as number })),
  );
}

/** The tokens of all rows from a position to another, int32 [B, T]. */
function tokensOf(examples: readonly RecallExample[], from: number, to: number): tf.Tensor2D {
  const ids = new Int32Array(examples.length * (to - from));
  examples.forEach(({ tokens }, row) => {
    ids.set(tokens.subarray(from, to), row * (to - from));
  });
  return tf.tensor2d(ids, [examples.length, to - from], 'int32');
}

/** Reads what comes before any question. */
function readWithout(
  model: LanguageModel,
  cache: ModelCache,
  examples: readonly RecallExample[],
  end: number,
): void {
  const chunk = Math.max(1, Math.floor(defaultChunkSize(model.config) / examples.length));
  for (let from = 0; from < end; from += chunk) {
    const tokens = tokensOf(examples, from, Math.min(from + chunk, end));
    model.extend(tokens, cache, { logits: 'none' });
    tokens.dispose();
  }
}

async function verdictsOf(
  model: LanguageModel,
  cache: ModelCache,
  examples: readonly RecallExample[],
  { from, to, targets }: { from: number; to: number; targets: readonly Target[] },
): Promise<(boolean | null)[]> {
  const width = to - from;
  const tokens = tokensOf(examples, from, to);
  const logits = model.extend(tokens, cache, { logits: 'all' });
  const rows = tf.reshape<tf.Rank.R2>(logits, [examples.length * width, -1]);
  tf.dispose([tokens, logits]);
  const asked = targets.map(({ row, position, token }) => ({ row: row * width + position - from, token }));
  try {
    return (await scoreTokens(rows, asked, true)).map(({ greedy }) => greedy);
  } finally {
    rows.dispose();
  }
}
