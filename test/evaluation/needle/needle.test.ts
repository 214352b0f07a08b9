import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCorpus, type Corpus } from '../../../src/data/corpus.js';
import { loadTokenizer, type Tokenizer } from '../../../src/data/tokenizer.js';
import type { Candidate } from '../../../src/evaluation/candidates.js';
import { parseDepths } from '../../../src/evaluation/needle/depths.js';
import { writeNeedleFigures } from '../../../src/report/needle-figures.js';
import { runNeedle, type NeedleRun } from '../../../src/evaluation/needle/run.js';
import { summarizeTrials, type MeasuredTrial } from '../../../src/evaluation/needle/cells.js';
import { NEEDLE_CONTEXTS } from '../../../src/evaluation/needle/tables.js';
import { writeDerived } from '../../../src/results/derived.js';
import { collectProvenance } from '../../../src/results/provenance.js';
import type { Row } from '../../../src/results/schema.js';
import * as tf from '../../../src/tf.js';
import { usePlainBackend } from '../../plain-backend.js';
import { stubCandidate, stubEngine, StubModel } from '../stub-model.js';
import { answering, hasty, needleOf, perfect } from './models.js';

const test = suite('evaluation/needle');

let directory = '';
let haystack: Corpus;
let bytes: Tokenizer;
test.before(async () => {
  await usePlainBackend();
  directory = mkdtempSync(join(tmpdir(), 'yoco-needle-run-'));
  const path = join(directory, 'hay.txt');
  writeFileSync(path, Array.from({ length: 200 }, (_, i) => `Sentence ${i} is here. `).join(''));
  haystack = await loadCorpus(path);
  bytes = await loadTokenizer('bytes');
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

async function run(
  out: string,
  candidates: Candidate[],
  changes: Partial<NeedleRun> = {},
): Promise<{ cells: Row[]; trials: Row[]; contexts: readonly Row[]; notes: string[] }> {
  const notes: string[] = [];
  const { contexts, writers } = await runNeedle({
    engine: stubEngine,
    candidates,
    haystack,
    provenance: collectProvenance({ command: [], flags: {} }),
    directory: join(directory, out),
    note: (line) => notes.push(line),
    ...{ contexts: [600, 900], depths: [0, 50, 100], needles: [1], variants: ['standard'], trials: 2 },
    ...{ seed: 1, resume: true, ...changes },
  });
  for (const writer of writers) writer.close();
  const [cells, trials] = writers;
  return { cells: cells.rows, trials: trials.rows, contexts: contexts.rows, notes };
}

test('a model that finds the needle is right everywhere, with intervals and timings', async () => {
  const model = perfect();
  const { cells, trials, contexts } = await run('perfect', [stubCandidate('perfect', model, bytes)]);
  assert.is(cells.length, 6);
  assert.is(trials.length, 12);
  assert.is(contexts.length, 2);
  assert.ok(
    cells.every(({ accuracy, correct, wrong_line: wrong }) => accuracy === 1 && correct === 2 && wrong === 0),
  );
  assert.ok(Number(contexts[0]?.interval_low) > 0.6 && contexts[0]?.interval_high === 1);
  assert.ok(trials.every(({ expected, answer }) => expected === answer));
  assert.ok(
    cells.every((row) => Number(row.prefill_tokens_per_second) > 0 && Number(row.first_token_seconds) > 0),
  );
  assert.is(model.openCaches, 0);
});

test('times are medians over trials, which the first one with its kernels to compile does not move', () => {
  const trials = [9, 1, 2].map((seconds, trial): MeasuredTrial => ({
    ...{ model: 'm', architecture: 'yoco', selfDecoder: null, haystack: 'h', variant: 'standard' },
    ...{ needles: 1, context: 4096, depth: 50, trial, status: 'ok', error: null },
    ...{
      placedDepth: 50,
      expected: '7',
      answer: '7',
      exact: 1,
      contained: 1,
      taken: 'asked',
      takenDepth: 50,
    },
    ...{ prefillSeconds: seconds, prefillTokensPerSecond: 4096 / seconds, firstTokenSeconds: seconds },
    ...{ decodeTokensPerSecond: 1 / seconds, peakBytes: seconds * 100, peakResidentBytes: null },
  }));
  const summary = summarizeTrials(trials);
  assert.is(summary.prefillSeconds, 2);
  assert.is(summary.prefillTokensPerSecond, 2048);
  assert.is(summary.firstTokenSeconds, 2);
  assert.is(summary.decodeTokensPerSecond, 0.5);
  assert.is(summary.peakBytes, 900);
  assert.is(summary.peakResidentBytes, null);
});

test('of several needles, the wrong one taken is told with its depth', async () => {
  const { trials, cells } = await run('hasty', [stubCandidate('hasty', hasty(), bytes)], {
    ...{ needles: [3], depths: [0], contexts: [900], trials: 4 },
  });
  assert.ok(trials.every(({ taken, exact }) => (taken === 'asked') === (exact === 1)));
  const wrong = trials.filter(({ taken }) => taken === 'other');
  assert.ok(wrong.length >= 3);
  assert.ok(wrong.every(({ taken_depth: depth, placed_depth: placed }) => Number(depth) > Number(placed)));
  assert.is(cells[0]?.wrong_line, wrong.length / 4);
});

test('distractors about the same city are told apart from the needle', async () => {
  const model = answering(
    (prompt, city) => new RegExp(`The special magic ${city} \\w+ is (\\d+)`).exec(prompt)?.[1],
  );
  const { trials } = await run('attribute', [stubCandidate('m', model, bytes)], {
    ...{ variants: ['other-attribute'], depths: [100], contexts: [900], trials: 4 },
  });
  assert.ok(trials.some(({ taken }) => taken === 'distractor'));
});

test('digits that only occur in the answer satisfy the official criterion, not ours', async () => {
  const model = answering((prompt, city) => `9${needleOf(prompt, city) ?? ''}`);
  const { cells } = await run('contained', [stubCandidate('m', model, bytes)], {
    depths: [50],
    contexts: [600],
  });
  assert.equal([cells[0]?.accuracy, cells[0]?.accuracy_contained], [0, 1]);
});

test('a second run measures nothing again and writes the same tables', async () => {
  const read = (): string[] =>
    ['needle.csv', 'needle-trials.csv'].map((file) => readFileSync(join(directory, 'perfect', file), 'utf8'));
  const before = read();
  const model = perfect();
  await run('perfect', [stubCandidate('perfect', model, bytes)]);
  assert.is(model.consumed, 0);
  assert.equal(read(), before);
});

test('contexts beyond the memory are said before the work and are rows; none that fits is an error', async () => {
  const candidate = stubCandidate('m', perfect(), bytes);
  // The stub's configuration: 64 bytes of keys and values per token beside weights and activations.
  const engine = { ...stubEngine, availableBytes: () => 2 ** 21 };
  const { cells, notes } = await run('memory', [candidate], {
    engine,
    contexts: [600, 10 ** 6],
    depths: [50],
  });
  assert.match(
    notes.join(),
    /left out: a prompt of 1000000 tokens .* needs \d+ bytes .*, available are 2097152/,
  );
  assert.equal(
    cells.map(({ status }) => status),
    ['ok', 'error'],
  );
  assert.match(String(cells[1]?.error), /available are 2097152/);
  try {
    await run('memory-none', [candidate], { engine, contexts: [10 ** 6] });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /needs \d+ bytes/);
  }
});

test('a context too short for the prompt is refused before the work starts', async () => {
  const model = perfect();
  try {
    await run('short', [stubCandidate('m', model, bytes)], { contexts: [600, 100] });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /100 tokens is too short/);
  }
  assert.is(model.consumed, 0);
});

test('heat maps: one for each model and number of needles, named by what differs', async () => {
  const candidates = [stubCandidate('a', perfect(), bytes), stubCandidate('b', hasty(), bytes)];
  await run('maps', candidates, { needles: [1, 2], trials: 1, contexts: [900] });
  const figures = await writeNeedleFigures(join(directory, 'maps'));
  assert.is(figures.length, 8);
  const files = readdirSync(join(directory, 'maps')).filter((file) => file.endsWith('.svg'));
  assert.equal(files.sort(), [
    'needle-a-1-needles.svg',
    'needle-a-2-needles.svg',
    'needle-b-1-needles.svg',
    'needle-b-2-needles.svg',
  ]);
  assert.match(readFileSync(figures[0] ?? '', 'utf8'), /^<svg[^]*100 %/);
  assert.is(readFileSync(figures[1] ?? '').toString('latin1', 1, 4), 'PNG');
});

test('pictures show the rows that earlier runs left in the tables', async () => {
  const candidates = [stubCandidate('a', perfect(), bytes)];
  for (const context of [900, 1024]) {
    const changes = { trials: 1, contexts: [context] };
    const { contexts } = await run('kept', candidates, changes);
    writeDerived(join(directory, 'kept'), { schema: NEEDLE_CONTEXTS, rows: contexts }, { keepOthers: true });
  }
  const figures = await writeNeedleFigures(join(directory, 'kept'));
  assert.equal(
    figures.map((path) => basename(path)).filter((name) => name.endsWith('.svg')),
    ['needle-overview.svg', 'needle.svg'],
  );
  assert.match(readFileSync(join(directory, 'kept/needle.svg'), 'utf8'), />900<[^]*>1k</);
});

test('depths are lists of percentages, with .. for equal steps', () => {
  assert.equal(parseDepths('0,50,100'), [0, 50, 100]);
  assert.equal(parseDepths('0,10,..,50'), [0, 10, 20, 30, 40, 50]);
  assert.equal(parseDepths('0, 25,...,100'), [0, 25, 50, 75, 100]);
  assert.equal(parseDepths('12.5%'), [12.5]);
  for (const bad of ['', '101', '-1', 'x', '0,..,100', '..,5', '0,10,..', '50,40,..,10']) {
    assert.throws(() => parseDepths(bad), /depth/, bad);
  }
});

test('tables and remarks say where needles stand when the text has few ends of sentences', async () => {
  const path = join(directory, 'two-sentences.txt');
  writeFileSync(path, `${'word '.repeat(90)}end. ${'other '.repeat(90)}end. `);
  const sparse = await run('sparse', [stubCandidate('m', perfect(), bytes)], {
    haystack: await loadCorpus(path),
    ...{ contexts: [900], depths: [0, 90], trials: 1 },
  });
  const placed = sparse.cells.map(({ placed_depth: depth }) => Number(depth));
  assert.equal(
    placed,
    sparse.trials.map(({ placed_depth: depth }) => depth),
  );
  assert.ok(Math.abs((placed[1] ?? 90) - 90) > 5);
  assert.ok(sparse.notes.some((line) => /needles more than 5 points from their depth: 1,/.test(line)));
  const fine = await run('dense', [stubCandidate('m', perfect(), bytes)], { contexts: [2000], trials: 1 });
  assert.not.ok(fine.notes.some((line) => line.includes('points from their depth')));
});

test('runs that could never end are refused before any work, with the limit', async () => {
  try {
    await run('endless', [stubCandidate('m', perfect(), bytes)], { trials: 1e8 });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /100000000 trials .* at most 100,000 can be run at once/);
  }
  assert.throws(() => parseDepths('0,1e-7,..,100'), /at most 1001 can be tested at once/);
  assert.is(parseDepths('0,0.1,..,100').length, 1001);
});

test('a context beyond what a model was trained on is remarked', async () => {
  const trained = { ...stubCandidate('m', perfect(), bytes), trainedContext: 700 };
  const { notes } = await run('beyond', [trained], { depths: [50], trials: 1 });
  assert.ok(
    notes.some((line) => line.startsWith('m: 900 tokens are beyond the 700 the model was trained on')),
  );
});

test('logits that are not finite are a failed cell, which leaves nothing', async () => {
  const before = tf.memory().numTensors;
  const broken = new (class extends StubModel {
    override row(context: readonly number[]): number[] {
      tf.keep(tf.scalar(1));
      return super.row(context).map(() => NaN);
    }
  })(264);
  const { cells } = await run('nan', [stubCandidate('m', broken, bytes)], { depths: [50], trials: 1 });
  assert.ok(cells.every(({ status, error }) => status === 'error' && /not finite/.test(String(error))));
  assert.is(tf.memory().numTensors, before);
});

test.run();
