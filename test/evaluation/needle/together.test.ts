import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCorpus, type Corpus } from '../../../src/data/corpus.js';
import { loadTokenizer } from '../../../src/data/tokenizer.js';
import type { Engine } from '../../../src/engines/engine.js';
import { runNeedle, type NeedleRun } from '../../../src/evaluation/needle/run.js';
import { collectProvenance } from '../../../src/results/provenance.js';
import type { Row } from '../../../src/results/schema.js';
import { usePlainBackend } from '../../plain-backend.js';
import { stubCandidate, stubEngine, type StubModel } from '../stub-model.js';
import { hasty } from './models.js';

const test = suite('evaluation/needle: trials together');
let directory = '';
let haystack: Corpus;
test.before(async () => {
  await usePlainBackend();
  directory = mkdtempSync(join(tmpdir(), 'yoco-needle-together-'));
  const path = join(directory, 'hay.txt');
  writeFileSync(path, Array.from({ length: 200 }, (_, i) => `Sentence ${i} is here. `).join(''));
  haystack = await loadCorpus(path);
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

const TIMES = ['prefill_seconds', 'first_token_seconds', 'peak_bytes', 'decode_tokens_per_second'] as const;

async function trialsOf(
  out: string,
  model: StubModel,
  batch: NeedleRun['batch'],
  engine: Engine = stubEngine,
): Promise<Row[]> {
  const { writers } = await runNeedle({
    ...{ engine, haystack, batch, directory: join(directory, out) },
    candidates: [stubCandidate('m', model, await loadTokenizer('bytes'))],
    provenance: collectProvenance({ command: [], flags: {} }),
    note: () => undefined,
    ...{ contexts: [600, 900], depths: [0, 100], needles: [1, 2], variants: ['standard'], trials: 2 },
    ...{ seed: 1, resume: true },
  });
  for (const writer of writers) writer.close();
  return writers[1].rows;
}

const answersOf = (rows: readonly Row[]): unknown[] =>
  rows.map(({ context, depth, needles, trial, answer, exact, taken, status }) => {
    return { context, depth, needles, trial, answer, exact, taken, status };
  });

test('trials of a context are computed together, with the answers and the order of trials alone', async () => {
  const alone = await trialsOf('alone', hasty(), 1);
  assert.ok(alone.every((row) => TIMES.every((name) => row[name] !== null)));
  assert.ok(new Set(alone.map(({ exact }) => exact)).size === 2, 'answers differ');
  for (const batch of [3, 'auto'] as const) {
    const model = hasty();
    const together = await trialsOf(`together-${batch}`, model, batch);
    assert.equal(answersOf(together), answersOf(alone), String(batch));
    assert.is(Math.max(...model.packed), batch === 'auto' ? 8 : 3);
    assert.is(model.openCaches, 0);
    assert.ok(together.every((row) => TIMES.every((name) => row[name] === null)));
  }
});

test('where the memory has room for one trial only, each is computed alone', async () => {
  const model = hasty();
  const engine = { ...stubEngine, availableBytes: () => 2 ** 20 };
  assert.equal(
    answersOf(await trialsOf('small', model, 'auto', engine)),
    answersOf(await trialsOf('alone', hasty(), 1)),
  );
  assert.is(Math.max(0, ...model.packed), 0);
});

test('a trial that fails is a row, those beside it are answered', async () => {
  const model = hasty();
  const row = model.row.bind(model);
  let prompts = 0;
  model.row = (context) => {
    const first = context.length === 600 && ++prompts === 2;
    return row(context).map((value) => (first ? NaN : value));
  };
  const rows = await trialsOf('failing', model, 4);
  assert.equal(
    rows.filter(({ status }) => status === 'error').map(({ error }) => String(error).slice(0, 36)),
    ["the model's logits are not finite: i"],
  );
  assert.is(rows.length, 16);
});

test.run();
