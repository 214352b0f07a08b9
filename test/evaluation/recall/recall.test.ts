import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseRecallTask, RECALL_TASKS, type RecallExample } from '../../../src/data/recall/index.js';
import { loadTokenizer } from '../../../src/data/tokenizer.js';
import { answerQuestions } from '../../../src/evaluation/recall/answer.js';
import { runRecall, type RecallRun } from '../../../src/evaluation/recall/run.js';
import { limits } from '../../../src/ops/limits.js';
import { createConfig, createModel } from '../../../src/model/index.js';
import { Random } from '../../../src/random.js';
import { collectProvenance } from '../../../src/results/provenance.js';
import type { Row } from '../../../src/results/schema.js';
import * as tf from '../../../src/tf.js';
import { scratchDirectory } from '../../checkpoint/scratch.js';
import { runCli } from '../../cli/run.js';
import { usePlainBackend } from '../../plain-backend.js';
import { stubCandidate, stubEngine, StubModel } from '../stub-model.js';

const test = suite('evaluation/recall');
const at = scratchDirectory(test);
test.before(usePlainBackend);
test.after(usePlainBackend);

/** Predicts the value of a key at every later place of the key; `knows` says of which keys. */
const recalling = (knows: (key: number) => boolean): StubModel =>
  new StubModel(128, (context) => {
    const key = context.at(-1) ?? 0;
    const first = context.indexOf(key);
    return knows(key) && first < context.length - 1 ? (context[first + 1] ?? null) : 0;
  });

async function run(
  out: string,
  model: StubModel,
  changes: Partial<RecallRun> = {},
): Promise<{ rows: readonly Row[]; notes: string[] }> {
  const notes: string[] = [];
  const writer = await runRecall({
    engine: stubEngine,
    candidates: [stubCandidate('stub', model, await loadTokenizer('symbols-128'))],
    provenance: collectProvenance({ command: ['eval-recall'], flags: {}, engine: stubEngine }),
    tasks: [parseRecallTask('mqar')],
    lengths: [32],
    items: [4],
    sequences: 5,
    seed: 1,
    directory: at(out),
    resume: true,
    note: (line) => notes.push(line),
    ...changes,
  });
  writer.close();
  return { rows: writer.rows, notes };
}

test('accuracy is the share of questions that the model answers', async () => {
  const { rows: all } = await run(
    'all',
    recalling(() => true),
  );
  assert.equal(
    all.map(({ task, length, items, sequences, questions, correct, accuracy, accuracy_error }) => [
      ...[task, length, items, sequences, questions, correct, accuracy, accuracy_error],
    ]),
    [['mqar', 32, 4, 5, 20, 20, 1, 0]],
  );
  const even = recalling((key) => key % 2 === 0);
  const { rows: some } = await run('some', even);
  // Count the even keys of the same sequences.
  const random = (index: number): Random => new Random(`1/recall/mqar/evaluation/32/4/${index}`);
  const keys = [0, 1, 2, 3, 4].flatMap((index) => {
    const { tokens } = RECALL_TASKS.mqar.make({ length: 32, items: 4, vocabSize: 128 }, random(index));
    return [0, 2, 4, 6].map((place) => tokens[place] ?? NaN);
  });
  assert.is(some[0]?.correct, keys.filter((key) => key % 2 === 0).length);
  assert.ok(keys.some((key) => key % 2 === 0) && keys.some((key) => key % 2 === 1));
  assert.is(even.openCaches, 0);
});

test('finished cells are kept, and cells without sequences are left out with the reason', async () => {
  const model = recalling(() => true);
  const grid = { lengths: [16, 32], items: [4, 8] };
  const { rows, notes } = await run('grid', model, grid);
  assert.equal(
    rows.map(({ length, items }) => [length, items]),
    [
      [16, 4],
      [32, 4],
      [32, 8],
    ],
  );
  assert.equal(notes, ['left out: mqar with 8 pairs in 16 tokens: 8 pairs need 32 tokens']);
  const { consumed } = model;
  await run('grid', model, grid);
  assert.is(model.consumed, consumed);
  await run('grid', model, { ...grid, sequences: 6 });
  assert.ok(model.consumed > consumed);
});

test('read in chunks and side by side, the verdicts are those of the forward pass', async () => {
  const config = createConfig({
    ...{ dim: 16, layers: 2, hiddenDim: 24, heads: 2, kvHeads: 1, vocabSize: 128 },
    ...{ selfDecoder: 'sliding-window', slidingWindow: 4 },
  });
  const model = createModel(config, { seed: 3 });
  const chunkBytes = limits.chunkBytes;
  try {
    const examples = Array.from({ length: 2 }, (_, row): RecallExample => {
      const random = new Random(row);
      const tokens = Int32Array.from({ length: 700 }, () => random.below(128));
      const best = tf.tidy(() => {
        const logits = model.forward(tf.tensor2d(tokens, [1, 700], 'int32'));
        return logits.reshape([700, 128]).argMax(1).dataSync();
      });
      const positions = [[5], [300, 301, 302], [303], [699]];
      const questions = positions.map((own, index) => ({
        positions: own,
        // Every second question has a wrong answer, at its last token only.
        answers: own.map((position, part) => {
          const right = best[position] ?? 0;
          return index % 2 === row && part === own.length - 1 ? (right + 1) % 128 : right;
        }),
      }));
      return { tokens, questions };
    });
    const expected = [
      [false, true, false, true],
      [true, false, true, false],
    ];
    assert.equal(await answerQuestions(model, examples), expected);
    // The smallest chunk is 256 tokens: 128 of each sequence.
    limits.chunkBytes = 1;
    assert.equal(await answerQuestions(model, examples), expected);
  } finally {
    limits.chunkBytes = chunkBytes;
    model.dispose();
  }
});

test('yoco train --task and eval-recall: a model learns, is evaluated, and the table is checked', async () => {
  const config = { dim: 16, layers: 2, hiddenDim: 16, heads: 1, vocabSize: 128, crossPositions: 'none' };
  writeFileSync(at('small.json'), JSON.stringify(config));
  const engine = ['--engine', 'cpu', '--threads', '1', '--quiet'];
  const trained = await runCli(
    ...['train', '--task', 'needle-multi-query', '--tokenizer', 'symbols-128', '--config', at('small.json')],
    ...['--steps', '3', '--batch', '2', '--length', '64', '--items', '3', '--out', at('run'), ...engine],
  );
  assert.is(trained.exitCode, 0, trained.stderr);
  const [header = '', ...lines] = readFileSync(at('run/train.csv'), 'utf8').trim().split('\n');
  const last = (name: string): string | undefined =>
    lines.at(-1)?.split(',')[header.split(',').indexOf(name)];
  assert.equal([last('step'), last('tokens'), last('loss')], ['3', '384', '']);
  assert.ok(Number(last('answer_loss')) > 0 && Number(last('held_out_answer_loss')) > 0);
  const evaluate = (...more: string[]) =>
    runCli(
      ...['eval-recall', '--checkpoint', at('run'), '--task', 'needle-multi-query', '--ctx', '64,128'],
      ...['--items', '3', '--sequences', '4', '--format', 'csv', ...engine, ...more],
    );
  const first = await evaluate('--out', at('recall'));
  assert.is(first.exitCode, 0, first.stderr);
  const table = readFileSync(at('recall/eval-recall.csv'), 'utf8');
  assert.match(
    table,
    /\nrun,yoco,gated-retention,needle-multi-query,1,128,3,checkpoint,\d+,\d+,\d+,4,12,\d+,/,
  );
  const better = table.replace(/,12,\d+,[\d.]+,/g, ',12,12,1,');
  writeFileSync(at('better.csv'), better);
  const checked = await evaluate('--out', at('recall'), '--check', at('better.csv'));
  assert.is(checked.exitCode, 1);
  assert.match(checked.stderr, /accuracy/);

  const words = await runCli('eval-recall', '--preset', 'nano', ...engine, '--out', at('words'));
  assert.is(words.exitCode, 2);
  assert.match(words.stderr, /recall tasks are of numbered symbols: train one with yoco train --task/);
  const unknown = await runCli('eval-recall', '--task', 'chess', '--checkpoint', at('run'), ...engine);
  assert.is(unknown.exitCode, 2);
  assert.match(unknown.stderr, /unknown recall task 'chess': use mqar/);
  assert.not.ok(existsSync(at('words')));
});

test.run();
