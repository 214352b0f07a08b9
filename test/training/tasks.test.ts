import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCorpus } from '../../src/data/corpus.js';
import type { Corpus } from '../../src/data/corpus.js';
import { drawFacts } from '../../src/data/needle/facts.js';
import { Haystack } from '../../src/data/needle/haystack.js';
import { INSTRUCTION } from '../../src/data/needle/templates.js';
import { Random } from '../../src/random.js';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import { NeedleTask } from '../../src/training/needle-task.js';
import { needleText } from '../../src/training/needle-text.js';
import { RecallTraining } from '../../src/training/recall-training.js';
import { createRecipe } from '../../src/training/recipe.js';
import type { Batch, TrainingTask } from '../../src/training/task.js';
import { TextTask } from '../../src/training/text-task.js';
import { refuses } from '../checkpoint/scratch.js';
import { llamaLike } from '../data/tokenizers/files.js';

const test = suite('training/tasks');
const tokenizer = await loadTokenizer('bytes');
let directory = '';
let corpus: Corpus;

test.before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-tasks-'));
  const sentences = Array.from(
    { length: 2000 },
    (_, index) => `Sentence ${index} tells of nothing in particular. `,
  );
  writeFileSync(join(directory, 'text.txt'), sentences.join(''));
  corpus = await loadCorpus(join(directory, 'text.txt'));
});
test.after(() => {
  rmSync(directory, { recursive: true, force: true });
});

const textTask = (stages = [{ steps: 4, batch: 3, length: 32 }]): TextTask =>
  new TextTask({
    ...{ sources: [{ name: null, corpus, weight: null }], tokenizer, stages },
    ...{ seed: 1, evalTokens: 200 },
  });

const needleTask = (stage: object): NeedleTask =>
  new NeedleTask({
    corpus,
    tokenizer,
    stages: createRecipe({ task: 'needle', stages: [stage] }).stages,
    seed: 1,
    evalTokens: 1,
  });

const copies = (task: TrainingTask, count: number): Batch[] =>
  Array.from({ length: count }, () => task.next(0));

/** SHA-256 of the tokens of two batches to train on and of the held-out ones. */
function fingerprint(task: TrainingTask): string {
  const hash = createHash('sha256');
  for (const { tokens } of [...copies(task, 2), ...task.heldOut()]) hash.update(tokens);
  return hash.digest('hex').slice(0, 16);
}

test('a seed gives the batches that it always gave: earlier results depend on them', () => {
  assert.equal([needleTask({ batch: 2, length: 768 }), recall()].map(fingerprint), [
    '068fa15b12679ba1',
    'c69c2bf913749c7a',
  ]);
});

test('a tokenizer file is known by its content, and is among the inputs', async () => {
  const taskOf = async (file: string, description: object): Promise<TextTask> => {
    const path = join(directory, file);
    writeFileSync(path, JSON.stringify(description));
    return new TextTask({
      ...{ sources: [{ name: null, corpus, weight: null }], tokenizer: await loadTokenizer(path) },
      ...{ stages: [{ steps: 1, batch: 1, length: 32 }], seed: 1, evalTokens: 200 },
    });
  };
  const [first, moved] = [await taskOf('a.json', llamaLike()), await taskOf('b.json', llamaLike())];
  const changed = await taskOf('a.json', { ...llamaLike(), truncation: undefined });
  assert.equal(moved.identity, first.identity);
  assert.not.equal(changed.identity, first.identity);
  const hashIn = ({ inputs }: TextTask, file: string): string | undefined =>
    inputs[`tokenizer: ${join(directory, file)}`];
  assert.match(hashIn(first, 'a.json') ?? '', /^[0-9a-f]{64}$/);
  assert.is(hashIn(moved, 'b.json'), hashIn(first, 'a.json'));
  assert.is.not(hashIn(changed, 'a.json'), hashIn(first, 'a.json'));
  assert.equal(Object.keys(textTask().inputs), [corpus.name], 'a named one is no input');
});

test('targets are the tokens that follow', () => {
  const batch = textTask().next(0);
  assert.equal([batch.rows, batch.length, batch.tokens.length], [3, 32, 96]);
  for (let row = 0; row < 3; row++) {
    const start = row * 32;
    assert.equal(batch.tokens.slice(start + 1, start + 32), batch.targets.slice(start, start + 31));
  }
});

for (const [name, make] of [
  ['text', () => textTask()],
  ['needle', () => needleTask({ batch: 2, length: 768 })],
  ['recall', () => recall()],
] as const) {
  test(`${name}: continues exactly from its state`, () => {
    const task = make();
    copies(task, 3);
    const state: unknown = JSON.parse(JSON.stringify(task.state()));
    const expected = copies(task, 3);
    const other = make();
    other.restore(state as never);
    assert.equal(copies(other, 3), expected);
    refuses(() => {
      other.restore({ nonsense: 1 });
    }, /data cursor/);
  });
}

test('held-out batches are always the same and not trained on', () => {
  const task = textTask();
  const first = [...task.heldOut()];
  copies(task, 2);
  assert.equal([...task.heldOut()], first);
  const trained = Buffer.from(corpus.text('train')).toString();
  for (const { tokens } of first) assert.not.ok(trained.includes(tokenizer.decode(tokens)));
  assert.is(
    first.reduce((sum, { rows }) => sum + rows, 0),
    Math.floor(200 / 32),
  );
});

test('a text shorter than a sequence is refused', async () => {
  writeFileSync(join(directory, 'short.txt'), 'Too short.');
  const short = await loadCorpus(join(directory, 'short.txt'));
  assert.throws(
    () =>
      new TextTask({
        sources: [{ name: null, corpus: short, weight: null }],
        tokenizer,
        stages: [{ steps: 1, batch: 1, length: 64 }],
        seed: 1,
        evalTokens: 64,
      }),
    /the training text has \d+ tokens but at least 65 are needed/,
  );
  assert.throws(
    () => needleTask({ length: 100 }),
    /sequences of 100 tokens are too short for needles: use 384/,
  );
  assert.throws(() => needleTask({ length: 384, officialShare: 0.5 }), /too short for needles: use 768/);
});

test('needle texts ask for what they hide', () => {
  const haystack = Haystack.fromCorpus(corpus, tokenizer);
  let instructions = 0;
  for (let seed = 0; seed < 200; seed++) {
    const needles = 1 + (seed % 12);
    const length = 385 + 16 * seed;
    const wording = { officialShare: 1, maxDigits: 8, maxDistractors: 3, confusableShare: 0, looseShare: 0 };
    const options = { tokens: length, needles, ...wording };
    const { ids, answers } = needleText(options, haystack, tokenizer, new Random(seed));
    assert.is(ids.length, length);
    const text = tokenizer.decode(ids);
    const hidden = new Map(
      [...text.matchAll(/\nThe special magic ([A-Z][^\n]*?) number is (\d+) \. \n/g)].map(
        ([, city, number]) => [city, number],
      ),
    );
    const asked = [
      ...text.matchAll(
        /\nWhat is the special magic (.*?) number\? The special magic (.*?) number is (\d+) \./g,
      ),
    ];
    assert.ok(hidden.size >= 1 && hidden.size <= needles, `${hidden.size} of ${needles} in ${length}`);
    assert.ok(asked.length >= 1 && asked.length <= Math.min(6, hidden.size));
    for (const [, first, second, number] of asked) {
      assert.is(first, second);
      assert.is(hidden.get(first), number);
    }
    const answered = tokenizer.decode(answers.map((position) => ids[position] ?? 0));
    assert.is(answered, asked.map(([, , , number]) => `${number ?? ''} .`).join(''));
    if (text.startsWith(INSTRUCTION)) instructions += 1;
  }
  assert.ok(instructions > 50 && instructions < 150);
});

test('varied needle texts ask for what they hide, in sequences of 768 bytes too', () => {
  const haystack = Haystack.fromCorpus(corpus, tokenizer);
  const wording = { officialShare: 0, maxDigits: 18, maxDistractors: 3, confusableShare: 0.5, looseShare: 0 };
  for (let seed = 0; seed < 100; seed++) {
    const length = 769 + 40 * seed;
    const options = { tokens: length, needles: 1 + (seed % 6), ...wording };
    const { ids, answers } = needleText(options, haystack, tokenizer, new Random(seed));
    assert.is(ids.length, length);
    const first = answers[0];
    assert.ok(first !== undefined, `seed ${seed} asks nothing`);
    const numbers = tokenizer
      .decode(answers.map((position) => ids[position] ?? 0))
      .split(' .')
      .filter((number) => number !== '');
    const hidden = tokenizer.decode(ids.slice(0, first));
    for (const number of numbers) assert.match(hidden, new RegExp(`(?<![0-9])${number}(?![0-9])`));
  }
});

test('facts that are like one another are asked for first', () => {
  const haystack = Haystack.fromCorpus(corpus, tokenizer);
  const wording = { officialShare: 0, maxDigits: 8, maxDistractors: 4, confusableShare: 1, looseShare: 0 };
  for (let seed = 0; seed < 50; seed++) {
    const { ids, answers } = needleText(
      { tokens: 8000, needles: 6, ...wording },
      haystack,
      tokenizer,
      new Random(seed),
    );
    const random = new Random(seed);
    random.uniform(); // The opening.
    const confusable = drawFacts(6, wording, random).filter(({ isConfusable }) => isConfusable);
    const asked = tokenizer
      .decode(answers.map((position) => ids[position] ?? 0))
      .split(' .')
      .slice(0, -1);
    const first = asked.slice(0, confusable.length).sort();
    const numbers = confusable.map(({ number }) => number);
    assert.is(first.filter((number) => numbers.includes(number)).length, first.length, `seed ${seed}`);
  }
});

test('answers weigh four times the text, whatever their number', () => {
  const { weights, answers, targets, positions } = needleTask({ batch: 4, length: 768 }).next(0);
  assert.ok(weights && answers && positions === null && weights.length === targets.length);
  const sum = (flag: number): number =>
    weights.reduce((total, weight, index) => total + (answers[index] === flag ? weight : 0), 0);
  assert.ok(Math.abs(sum(0) - 0.5) < 1e-5);
  assert.ok(Math.abs(sum(1) - 2) < 1e-5);
});

test('answers alone need few positions, the same ones as in full', () => {
  const full = needleTask({ batch: 4, length: 768 }).next(0);
  const few = needleTask({ batch: 4, length: 768, answersOnly: true }).next(0);
  assert.equal(few.tokens, full.tokens);
  assert.ok(few.positions && few.answers && few.weights && full.answers);
  const count = few.targets.length / 4;
  assert.ok(count < 60);
  for (const [row, positions] of few.positions.entries()) {
    assert.is(positions.length, count);
    const chosen = [...positions].filter((_, column) => few.answers?.[row * count + column] === 1);
    const expected = Array.from(full.answers.subarray(row * 768, (row + 1) * 768).keys()).filter(
      (position) => full.answers?.[row * 768 + position] === 1,
    );
    assert.equal(chosen, expected);
    for (const [column, position] of positions.entries()) {
      if (column > 0) assert.ok(position > (positions[column - 1] ?? 0));
      assert.is(few.targets[row * count + column], full.targets[row * 768 + position]);
      assert.is(few.weights[row * count + column] === 0, few.answers[row * count + column] === 0);
    }
  }
});

const recall = (changes: object = {}): RecallTraining => {
  const stage = { batch: 3, length: 64, minItems: 2, maxItems: 8, ...changes };
  const { stages } = createRecipe({ task: 'mqar', stages: [stage] });
  return new RecallTraining({ task: 'mqar', vocabSize: 128, stages, seed: 1, evalTokens: 1 });
};

test('recall: the loss is at the answers alone, and every row has its own amount', () => {
  const task = recall();
  const amounts = new Set<number>();
  for (const { rows, tokens, targets, positions, weights, answers } of copies(task, 20)) {
    assert.ok(positions && weights && answers);
    const count = targets.length / rows;
    const total = answers.reduce((sum, flag) => sum + flag, 0);
    for (const [row, own] of positions.entries()) {
      assert.is(own.length, count);
      assert.equal(
        [...own],
        [...new Set(own)].sort((a, b) => a - b),
      );
      const isAnswer = [...answers.subarray(row * count, (row + 1) * count)];
      amounts.add(isAnswer.filter((flag) => flag === 1).length);
      for (const [column, position] of own.entries()) {
        const index = row * count + column;
        assert.is(weights[index], answers[index] === 1 ? Math.fround(1 / total) : 0);
        if (answers[index] !== 1) continue;
        const sequence = [...tokens.subarray(row * 64, (row + 1) * 64)];
        const key = sequence[position] ?? NaN;
        assert.is(targets[index], sequence[sequence.indexOf(key) + 1]);
      }
    }
  }
  assert.equal([...amounts].sort(), [2, 3, 4, 5, 6, 7, 8]);
});

test('recall: held-out sequences and those of another seed are not trained on', () => {
  const texts = (batches: Iterable<Batch>): string[] =>
    [...batches].flatMap(({ tokens }) =>
      [0, 1, 2].map((row) => tokens.slice(row * 64, row * 64 + 64).join()),
    );
  const trained = texts(copies(recall(), 50));
  const heldOut = texts(recall().heldOut());
  assert.equal(texts(recall().heldOut()), heldOut);
  assert.is(new Set([...trained, ...heldOut]).size, trained.length + heldOut.length);
});

test('recall: stages without sequences are refused', () => {
  assert.throws(() => recall({ maxItems: 17 }), /mqar with 17 pairs in 64 tokens: 17 pairs need 68 tokens/);
});

test.run();
