import { UsageError } from '../errors.js';
import type { Corpus } from '../data/corpus.js';
import { Haystack } from '../data/needle/haystack.js';
import { Random } from '../random.js';
import { tokenizerIdentity, tokenizerInputs, type Tokenizer } from '../data/tokenizer.js';
import type { Json } from '../results/canonical.js';
import { MadeUpTask, type Part } from './made-up-task.js';
import { needleText } from './needle-text.js';
import type { NeedleText } from './needle-text.js';
import type { RecipeStage } from './recipe.js';
import { windowBatch } from './task.js';
import type { Batch } from './task.js';

export interface NeedleTaskOptions {
  readonly corpus: Corpus;
  readonly tokenizer: Tokenizer;
  readonly stages: readonly RecipeStage[];
  readonly seed: number;
  /** Tokens of the held-out batches, at most (one batch at least). */
  readonly evalTokens: number;
}

/** The objective: half the mean loss of running text and twice that of the answers. */
const TEXT_WEIGHT = 0.5;
const ANSWER_WEIGHT = 2;
/** Byte sequences of these lengths have room for a needle and its question, in the official words and in others. */
const SHORTEST = 384;
const SHORTEST_VARIED = 768;

/** Finding numbers hidden in running text. */
export class NeedleTask extends MadeUpTask {
  readonly name = 'needle';
  readonly identity: Json;
  readonly inputs: Readonly<Record<string, string>>;
  private readonly train: Haystack;
  private readonly test: Haystack;

  /** Encodes the corpus. @throws UsageError for sequences too short for a needle and its question */
  constructor(private readonly options: NeedleTaskOptions) {
    const { corpus, tokenizer, stages, seed, evalTokens } = options;
    super(stages, evalTokens);
    for (const { length, officialShare } of stages) {
      const shortest = officialShare < 1 ? SHORTEST_VARIED : SHORTEST;
      if (length < shortest)
        throw new UsageError(
          `sequences of ${length} tokens are too short for needles: use ${shortest} or more`,
        );
    }
    this.inputs = { [corpus.name]: corpus.sha256, ...tokenizerInputs(tokenizer) };
    const described = stages.map((stage) => ({ ...stage }));
    this.identity = {
      task: this.name,
      corpus: corpus.sha256,
      tokenizer: tokenizerIdentity(tokenizer),
      stages: described,
      seed,
      evalTokens,
    };
    this.train = Haystack.fromCorpus(corpus, tokenizer, 'train');
    this.test = Haystack.fromCorpus(corpus, tokenizer, 'held-out');
  }

  protected make(stage: RecipeStage, part: Part, index: number): Batch {
    const haystack = part === 'train' ? this.train : this.test;
    const kind = part === 'train' ? 'batch' : part;
    const random = new Random(`${this.options.seed}/needle/${kind}/${index}`);
    const { batch, length, minNeedles, maxNeedles, answersOnly } = stage;
    const { officialShare, maxDigits, maxDistractors, confusableShare, looseShare } = stage;
    const wording = { officialShare, maxDigits, maxDistractors, confusableShare, looseShare };
    const texts = Array.from({ length: batch }, () => {
      const needles = minNeedles + random.below(maxNeedles - minNeedles + 1);
      return needleText(
        { tokens: length + 1, needles, ...wording },
        haystack,
        this.options.tokenizer,
        random,
      );
    });
    const windows = new Int32Array(batch * (length + 1));
    texts.forEach(({ ids }, row) => {
      windows.set(ids, row * (length + 1));
    });
    return answersOnly ? answerBatch(windows, texts) : fullBatch(windows, texts);
  }
}

/** Loss at every position. */
function fullBatch(windows: Int32Array, texts: readonly NeedleText[]): Batch {
  const batch = windowBatch(windows, texts.length);
  const answers = new Uint8Array(batch.targets.length);
  texts.forEach(({ answers: positions }, row) => {
    // The answer at position p is the target of the position before.
    for (const position of positions) answers[row * batch.length + position - 1] = 1;
  });
  const answerCount = answers.reduce((sum, flag) => sum + flag, 0);
  const text = TEXT_WEIGHT / (answers.length - answerCount);
  const answer = ANSWER_WEIGHT / answerCount;
  return { ...batch, answers, weights: Float32Array.from(answers, (flag) => (flag === 1 ? answer : text)) };
}

/**
 * Loss where answers are predicted. Rows must have equally many positions: those with fewer answers get positions of
 * the text before, with weight 0.
 */
function answerBatch(windows: Int32Array, texts: readonly NeedleText[]): Batch {
  const { rows, length, tokens, targets: all } = windowBatch(windows, texts.length);
  const count = Math.max(...texts.map(({ answers }) => answers.length));
  const answerCount = texts.reduce((sum, { answers }) => sum + answers.length, 0);
  const positions: Int32Array[] = [];
  const targets = new Int32Array(rows * count);
  const answers = new Uint8Array(rows * count);
  const weights = new Float32Array(rows * count);
  texts.forEach((text, row) => {
    const predicted = text.answers.map((position) => position - 1);
    const chosen = new Set(predicted);
    for (let position = (predicted[0] ?? length) - 1; chosen.size < count; position--) chosen.add(position);
    const sorted = Int32Array.from(chosen).sort();
    positions.push(sorted);
    sorted.forEach((position, column) => {
      const isAnswer = position >= (predicted[0] ?? length) && predicted.includes(position);
      targets[row * count + column] = all[row * length + position] ?? 0;
      answers[row * count + column] = isAnswer ? 1 : 0;
      weights[row * count + column] = isAnswer ? ANSWER_WEIGHT / answerCount : 0;
    });
  });
  return { rows, length, tokens, targets, positions, weights, answers };
}
