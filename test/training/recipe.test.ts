import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { refuses } from '../checkpoint/scratch.js';
import { costs, createConfig } from '../../src/model/index.js';
import { trainingBytes } from '../../src/training/memory.js';
import { createRecipe } from '../../src/training/recipe.js';
import { learningRateAt } from '../../src/training/schedule.js';
import { stageLearningRate, stageTheta } from '../../src/training/stages.js';
import { stageOf, totalSteps } from '../../src/training/task.js';

const test = suite('training/recipe');

test('defaults are a text run of one stage', () => {
  const recipe = createRecipe();
  assert.is(recipe.task, 'text');
  assert.equal(recipe.data, ['sotu']);
  assert.is(recipe.tokenizer, 'bytes');
  assert.is(recipe.stages.length, 1);
  assert.is(recipe.minLearningRate, recipe.learningRate / 10);
  assert.is(recipe.warmup, recipe.stages[0]?.steps === undefined ? 0 : recipe.stages[0].steps / 10);
});

test('needles are learned on short sequences first', () => {
  const { stages, decay, weightDecay } = createRecipe({ task: 'needle', steps: 1001 });
  assert.equal(
    stages.map(({ steps, batch, length, minNeedles, maxNeedles }) => [
      steps,
      batch,
      length,
      minNeedles,
      maxNeedles,
    ]),
    [
      [501, 64, 768, 2, 4],
      [500, 32, 2048, 1, 12],
    ],
  );
  assert.equal([decay, weightDecay], ['linear', 0.05]);
  assert.is(createRecipe({ task: 'needle', length: 512 }).stages.length, 1);
});

test('stages come from a file as they are', () => {
  const { stages } = createRecipe({
    task: 'needle',
    stages: [
      { steps: 3, batch: 2, length: 64 },
      { steps: 4, answersOnly: true },
    ],
  });
  assert.is(totalSteps(stages), 7);
  assert.equal(
    [1, 3, 4, 7, 9].map((step) => stageOf(stages, step)),
    [0, 0, 1, 1, 1],
  );
  assert.is(stages[1]?.answersOnly, true);
});

test('what cannot be meant is refused by name', () => {
  const corpus: [input: object, message: RegExp][] = [
    [{ step: 5 }, /unknown field step/],
    [{ steps: 0 }, /steps must be a positive integer/],
    [{ steps: 1.5 }, /steps must be a positive integer/],
    [{ task: 'chess' }, /task must be one of text, needle, mqar/],
    [{ items: 4 }, /items are of the recall tasks: mqar/],
    [{ task: 'mqar', items: 0 }, /items must be a positive integer/],
    [{ task: 'mqar', stages: [{}], items: 4 }, /given by the stages/],
    [
      { task: 'mqar', stages: [{ minItems: 5, maxItems: 4 }] },
      /minItems \(5\) must not exceed maxItems \(4\)/,
    ],
    [{ task: 'mqar', stages: [{ maxNeedles: 4 }] }, /stages\.0\.maxNeedles is of the needle tasks only/],
    [{ stages: [{ minItems: 4, maxItems: 4 }] }, /stages\.0\.minItems is of the recall tasks only/],
    [{ task: 'mqar', data: ['sotu'] }, /mqar makes its sequences up: leave out data/],
    [{ task: 'mqar', tokenizer: 'bytes' }, /tokenizer must be symbols-N/],
    [{ learningRate: -1 }, /learningRate must be a positive number/],
    [{ minLearningRate: 1 }, /minLearningRate \(1\) must not exceed/],
    [{ warmup: 600 }, /warmup \(600\) must not exceed the 500 steps/],
    [{ warmup: 0.5 }, /warmup must be an integer from 0 on/],
    [{ decay: 'step' }, /decay must be one of cosine, linear/],
    [{ beta2: 1 }, /beta2 must be below 1/],
    [{ clip: -1 }, /clip must be a number from 0 up/],
    [{ clip: 'none' }, /clip must be a number from 0 up, found "none"/],
    [{ data: [] }, /data must be a list of texts/],
    [{ data: 'sotu' }, /data must be a list of texts/],
    [{ tokenizer: 5 }, /tokenizer must be a text/],
    [{ stages: [] }, /stages must be a list of at least one/],
    [{ stages: [5] }, /stages\.0 must be an object/],
    [{ stages: [{}, { batch: 0 }] }, /stages\.1\.batch must be a positive integer/],
    [
      { task: 'needle', stages: [{ minNeedles: 5, maxNeedles: 4 }] },
      /minNeedles \(5\) must not exceed maxNeedles \(4\)/,
    ],
    [
      { task: 'needle', stages: [{ officialShare: 1.5 }] },
      /stages\.0\.officialShare must be a number from 0 to 1/,
    ],
    [
      { task: 'needle', stages: [{ officialShare: 0.5, maxDigits: 19 }] },
      /maxDigits \(19\) must not exceed 18/,
    ],
    [
      { task: 'needle', stages: [{ maxDistractors: 2 }] },
      /maxDistractors concerns needles in other than the official words/,
    ],
    [
      { task: 'needle', stages: [{ confusableShare: 0.5 }] },
      /confusableShare concerns needles in other than the official words/,
    ],
    [
      { task: 'needle', stages: [{ looseShare: 0.5 }] },
      /looseShare concerns needles in other than the official words/,
    ],
    [
      { task: 'needle', stages: [{ officialShare: 0.5, maxDistractors: 0, confusableShare: 0.5 }] },
      /confusableShare needs distractors/,
    ],
    [{ stages: [{}], steps: 5 }, /given by the stages/],
    [
      { decay: 'constant', minLearningRate: 1e-4 },
      /minLearningRate \(0\.0001\) needs a decay other than constant/,
    ],
    [{ ropeTheta: 0 }, /ropeTheta must be a positive number/],
    [{ stages: [{ ropeTheta: 'wide' }] }, /stages\.0\.ropeTheta must be a positive number/],
    [
      { stages: [{ learningRate: 1 }] },
      /stages\.0\.learningRate: the schedule of the first stage is that of the recipe/,
    ],
    [{ stages: [{}, { warmup: 3 }] }, /stages\.1\.warmup needs a learningRate of the stage/],
    [
      { stages: [{}, { learningRate: 1, minLearningRate: 2 }] },
      /stages\.1\.minLearningRate \(2\) must not exceed/,
    ],
    [
      { stages: [{}, { learningRate: 1, warmup: 9, steps: 8 }] },
      /stages\.1\.warmup \(9\) must not exceed the 8 steps/,
    ],
    [{ warmup: 5, stages: [{ steps: 4 }, { learningRate: 1 }] }, /warmup \(5\) must not exceed the 4 steps/],
    [{ seed: -1 }, /seed must be a whole number/],
    [{ recompute: 1 }, /recompute must be true or false/],
  ];
  for (const [input, message] of corpus) {
    refuses(() => createRecipe(input), message);
  }
});

test('the learning rate rises to its peak and decays to its end', () => {
  const schedule = { steps: 110, warmup: 10, learningRate: 1, minLearningRate: 0.1 };
  const rate = (step: number, decay: 'cosine' | 'linear'): number =>
    learningRateAt(step, { ...schedule, decay });
  assert.is(rate(1, 'linear'), 0.1);
  assert.is(rate(10, 'linear'), 1);
  assert.ok(Math.abs(rate(60, 'linear') - 0.55) < 1e-12);
  assert.ok(Math.abs(rate(60, 'cosine') - 0.55) < 1e-12);
  assert.ok(Math.abs(rate(35, 'cosine') - (0.1 + (0.9 * (1 + Math.SQRT1_2)) / 2)) < 1e-12);
  for (const decay of ['linear', 'cosine'] as const) assert.ok(Math.abs(rate(110, decay) - 0.1) < 1e-12);
  assert.is(learningRateAt(5, { ...schedule, steps: 5, warmup: 5, decay: 'cosine' }), 1);
  assert.is(learningRateAt(1, { ...schedule, steps: 1, warmup: 0, decay: 'linear' }), 0.1);
});

test('a stage with a learning rate begins a schedule, which the stages after it share', () => {
  const recipe = createRecipe({
    ...{ learningRate: 1, minLearningRate: 0, warmup: 0, decay: 'linear', ropeTheta: 500 },
    stages: [
      { steps: 2, length: 8 },
      { steps: 2, length: 16, ropeTheta: 2000 },
      { steps: 2, length: 32, learningRate: 0.5, minLearningRate: 0.1, warmup: 2 },
      { steps: 2, length: 64 },
      { steps: 3, ropeTheta: 9000, learningRate: 0.25, decay: 'constant' },
    ],
  });
  const rates = Array.from({ length: 11 }, (_, step) => stageLearningRate(recipe, step + 1));
  const expected = [0.75, 0.5, 0.25, 0, 0.25, 0.5, 0.3, 0.1, 0.25, 0.25, 0.25];
  rates.forEach((rate, step) => {
    assert.ok(Math.abs(rate - (expected[step] ?? NaN)) < 1e-12, `step ${step + 1}: ${rate}`);
  });
  assert.equal(
    recipe.stages.map((_, index) => stageTheta(recipe.stages, index)),
    [500, 2000, 2000, 2000, 9000],
  );
  assert.is(stageTheta(createRecipe().stages, 0), null);
  assert.equal(createRecipe({ ...recipe, heldOut: undefined }), recipe, 'a complete recipe is one');
  const needle = createRecipe({ task: 'needle' });
  assert.equal(createRecipe({ ...needle, heldOut: undefined }), needle);
  const mqar = createRecipe({ task: 'mqar' });
  assert.equal(createRecipe({ ...mqar }), mqar);
});

test('more tokens than a number counts are refused', () => {
  assert.throws(
    () => createRecipe({ accumulate: 2 ** 50 }),
    /a run of 1\.15e\+21 tokens is more than can be counted/,
  );
  assert.is(createRecipe({ accumulate: 2 ** 32 }).accumulate, 2 ** 32);
});

test('the sum of the gradients of several micro-batches takes memory of its own', () => {
  const config = createConfig({ dim: 16, layers: 2, hiddenDim: 24, heads: 2, kvHeads: 1, vocabSize: 264 });
  const bytes = (accumulate: number): number => trainingBytes(config, createRecipe({ accumulate }), 4);
  assert.is(bytes(2) - bytes(1), 4 * costs(config).parameters());
  assert.is(bytes(8), bytes(2));
});

test.run();
