import * as v from 'valibot';
import { UsageError } from '../errors.js';
import { checkShape } from '../files/json.js';
import type { Corpus } from '../data/corpus.js';
import { Haystack } from '../data/needle/haystack.js';
import { Random } from '../random.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { Json } from '../results/canonical.js';
import { needleText } from './needle-text.js';
import type { NeedleText } from './needle-text.js';
import type { RecipeStage } from './recipe.js';
import { windowBatch } from './task.js';
import type { Batch, HeldOutBatch, TrainingTask } from './task.js';

const CURSOR = v.object({
  batches: v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(0)),
});

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

/** Finding numbers hidden in running text; every batch is made up afresh. */
export class NeedleTask implements TrainingTask {
  readonly name = 'needle';
  readonly stages: readonly RecipeStage[];
  readonly identity: Json;
  readonly inputs: Readonly<Record<string, string>>;
  private readonly train: Haystack;
  private readonly test: Haystack;
  private batches = 0;

  /** Encodes the corpus. @throws UsageError for sequences too short for a needle and its question */
  constructor(private readonly options: NeedleTaskOptions) {
    const { corpus, tokenizer, stages, seed, evalTokens } = options;
    for (const { length, officialShare } of stages) {
      const shortest = officialShare < 1 ? SHORTEST_VARIED : SHORTEST;
      if (length < shortest)
        throw new UsageError(
          `sequences of ${length} tokens are too short for needles: use ${shortest} or more`,
        );
    }
    this.stages = stages;
    this.inputs = { [corpus.name]: corpus.sha256 };
    const described = stages.map((stage) => ({ ...stage }));
    this.identity = {
      task: this.name,
      corpus: corpus.sha256,
      tokenizer: tokenizer.name,
      stages: described,
      seed,
      evalTokens,
    };
    this.train = Haystack.fromCorpus(corpus, tokenizer, 'train');
    this.test = Haystack.fromCorpus(corpus, tokenizer, 'held-out');
  }

  next(index: number): Batch {
    const stage = this.stages[index];
    if (stage === undefined) throw new RangeError(`there is no stage ${index}`);
    return this.make(stage, this.train, this.random('batch', this.batches++));
  }

  progress(): readonly [] {
    return [];
  }

  /** Every batch has random numbers of its own, named by its index: that is all there is to remember. */
  state(): Json {
    return { batches: this.batches };
  }

  restore(state: Json): void {
    this.batches = checkShape('the data cursor of the checkpoint', state, CURSOR).batches;
  }

  readonly sources = [];

  *heldOut(): Generator<HeldOutBatch> {
    const last = this.stages.at(-1);
    if (last === undefined) return;
    const count = Math.max(1, Math.floor(this.options.evalTokens / (last.batch * last.length)));
    for (let index = 0; index < count; index++)
      yield { ...this.make(last, this.test, this.random('held-out', index)), source: 0 };
  }

  dispose(): void {
    // Nothing but memory to give back.
  }

  private random(kind: string, index: number): Random {
    return new Random(`${this.options.seed}/needle/${kind}/${index}`);
  }

  private make(stage: RecipeStage, haystack: Haystack, random: Random): Batch {
    const { batch, length, minNeedles, maxNeedles, answersOnly } = stage;
    const { officialShare, maxDigits, maxDistractors, confusableShare } = stage;
    const wording = { officialShare, maxDigits, maxDistractors, confusableShare };
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
