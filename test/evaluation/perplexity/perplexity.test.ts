import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadTokenizer, type Tokenizer } from '../../../src/data/tokenizer.js';
import { loadDocuments } from '../../../src/evaluation/perplexity/documents.js';
import { runPerplexity } from '../../../src/evaluation/perplexity/run.js';
import { perplexityFits } from '../../../src/evaluation/perplexity/fit.js';
import { MEAN } from '../../../src/evaluation/perplexity/tables.js';
import { perplexityFigure, writePerplexityFigures } from '../../../src/report/perplexity-figure.js';
import { documentLosses, doublingPositions } from '../../../src/evaluation/perplexity/perplexity.js';
import { collectProvenance } from '../../../src/results/provenance.js';
import type { Row } from '../../../src/results/schema.js';
import * as tf from '../../../src/tf.js';
import { usePlainBackend } from '../../plain-backend.js';
import { stubCandidate, stubEngine, StubModel } from '../stub-model.js';

const test = suite('evaluation/perplexity');

let directory = '';
let bytes: Tokenizer;
const TEXT = 'The quick brown fox jumps over the lazy dog. '.repeat(8);
test.before(async () => {
  await usePlainBackend();
  directory = mkdtempSync(join(tmpdir(), 'yoco-perplexity-'));
  bytes = await loadTokenizer('bytes');
  writeFileSync(join(directory, 'long.txt'), TEXT);
  writeFileSync(join(directory, 'short.txt'), TEXT.slice(0, 100));
  writeFileSync(join(directory, 'two.jsonl'), `{"text":"${TEXT.slice(0, 60)}"}\n{"text":"abc"}\n`);
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

/** Loss of token `at` after everything before it, the end-of-text token first. */
function lossAt(model: StubModel, text: string, at: number): number {
  const ids = [256, ...Buffer.from(text)];
  return -model.logProbability(ids.slice(0, at + 1), ids[at + 1] ?? NaN);
}

const near = (actual: unknown, expected: number): void => {
  assert.ok(
    typeof actual === 'number' && Math.abs(actual - expected) < 1e-3,
    `${String(actual)} is not ${expected}`,
  );
};

test('losses are summed up to each position, the first token after a begin token included', async () => {
  const model = new StubModel(264);
  const [document] = await loadDocuments([join(directory, 'long.txt')], bytes);
  assert.ok(document);
  assert.is(document.length, TEXT.length);
  const losses = await documentLosses(model, bytes, document.tokens, [1, 40, 100]);
  let sum = 0;
  const expected: [number, number][] = [];
  for (let at = 0; at < 100; at++) {
    sum += lossAt(model, TEXT, at);
    if ([0, 39, 99].includes(at)) expected.push([at + 1, sum]);
  }
  for (const [index, [position, nats]] of expected.entries()) {
    assert.is(losses[index]?.position, position);
    assert.is(losses[index]?.tokens, position);
    near(losses[index]?.nats, nats);
  }
  assert.is(model.consumed, 100, 'the last token is predicted, not consumed');
  assert.is(model.openCaches, 0);
});

test('without a token to begin with, the first token has no loss', async () => {
  const model = new StubModel(264);
  const plain: Tokenizer = {
    ...{ name: 'plain', vocabSize: 264, beginOfText: null, endOfText: null },
    ...{ padding: null, stopTokens: [], origins: [] },
    encode: (text) => bytes.encode(text),
    encodeAll: (texts) => texts.map((text) => bytes.encode(text)),
    encodePieces: (pieces) => bytes.encodePieces(pieces),
    encodeDocuments: (documents) => bytes.encodeDocuments(documents),
    encodeParts: (parts) => bytes.encodeParts(parts),
    decode: (ids) => bytes.decode(ids),
  };
  const [document] = await loadDocuments([join(directory, 'short.txt')], plain);
  assert.ok(document);
  assert.is(document.length, 100);
  const [loss] = await documentLosses(model, plain, document.tokens, [100]);
  assert.is(loss?.tokens, 99);
});

test('documents: each file, each line of a .jsonl; long ones are cut when the rest is not needed', async () => {
  const documents = await loadDocuments([join(directory, 'short.txt'), join(directory, 'two.jsonl')], bytes);
  assert.equal(
    documents.map(({ name, length }) => [name, length]),
    [
      ['short.txt', 100],
      ['two.jsonl#1', 60],
      ['two.jsonl#2', 3],
    ],
  );
  assert.is(new Set(documents.map(({ sha256 }) => sha256)).size, 3);
  assert.equal(doublingPositions(1000), [256, 512, 1000]);
  assert.equal(doublingPositions(100), [100]);
});

interface Outcome {
  rows: Row[];
  csv: string;
}

async function run(
  model: StubModel,
  files: string[],
  positions: number[] | null,
  out = 'out',
): Promise<Outcome> {
  const writer = await runPerplexity({
    directory: join(directory, out),
    note: () => undefined,
    engine: stubEngine,
    candidates: [stubCandidate('m', model, bytes)],
    provenance: collectProvenance({ command: [], flags: {} }),
    ...{ files: files.map((file) => join(directory, file)), positions, resume: true },
  });
  writer.close();
  return { rows: writer.rows, csv: readFileSync(join(directory, out, 'perplexity.csv'), 'utf8') };
}

test('rows for documents and their means; a second run measures nothing again', async () => {
  const model = new StubModel(264);
  const { rows, csv } = await run(model, ['long.txt', 'short.txt'], [50, 100, 300]);
  assert.equal(
    rows.map(({ document, position, documents }) => [document, position, documents]),
    [
      ['long.txt', 50, null],
      ['long.txt', 100, null],
      ['long.txt', 300, null],
      ['short.txt', 50, null],
      ['short.txt', 100, null],
      [MEAN, 50, 2],
      [MEAN, 100, 2],
    ],
  );
  const [first, second, third] = rows;
  near(second?.loss, (50 * Number(first?.loss) + 50 * Number(second?.loss_since_last)) / 100);
  near(third?.perplexity, Math.exp(Number(third?.loss)));
  near(rows[5]?.loss, (Number(first?.loss) + Number(rows[3]?.loss)) / 2);
  // Of two values the standard error is half their difference.
  near(rows[5]?.loss_error, Math.abs(Number(first?.loss) - Number(rows[3]?.loss)) / 2);
  assert.is(first?.loss_error ?? null, null);
  const again = new StubModel(264);
  assert.is((await run(again, ['long.txt', 'short.txt'], [50, 100, 300])).csv, csv);
  assert.is(again.consumed, 0);
  assert.match(perplexityFigure(rows), /^<svg[^]*mean over the documents/);
});

test('the picture shows earlier rows of the table, and leaves out what failed', async () => {
  writeFileSync(join(directory, 'earlier.txt'), 'abcdefgh'.repeat(40));
  await run(new StubModel(264), ['earlier.txt'], [50, 100], 'drawn');
  const path = join(directory, 'drawn/perplexity.csv');
  const [header = '', first = '', second = ''] = readFileSync(path, 'utf8').trimEnd().split('\n');
  const draw = async (...lines: string[]): Promise<string> => {
    writeFileSync(path, [header, ...lines, ''].join('\n'));
    const [file] = await writePerplexityFigures(join(directory, 'drawn'));
    return file === undefined ? '' : readFileSync(file, 'utf8');
  };
  const failed = second.split(',').map((cell, index) => {
    const name = header.split(',')[index];
    return name === 'status' ? 'error' : name === 'loss' ? '' : cell;
  });
  const alone = await draw(first);
  assert.is(await draw(first, failed.join(',')), alone);
  assert.is.not(await draw(first, second), alone);
  assert.is(await draw(failed.join(',')), '', 'no picture of nothing');
});

test('losses are divided by whether a token completes a bigram shown before; bits are over bytes', async () => {
  const text = `${'the cat and the cat. '.repeat(3)}naïve ☃ end`;
  writeFileSync(join(directory, 'recall.txt'), text);
  const model = new StubModel(264);
  const size = Buffer.byteLength(text);
  const { rows } = await run(model, ['recall.txt'], [size], 'recall');
  const ids = [256, ...Buffer.from(text)];
  let [hits, hitNats, nats] = [0, 0, 0];
  for (let i = 1; i < ids.length; i++) {
    const loss = -model.logProbability(ids.slice(0, i), ids[i] ?? NaN);
    nats += loss;
    // By brute force: has this pair stood anywhere before?
    const before = ids.slice(0, i).some((id, at) => at > 0 && id === ids[i] && ids[at - 1] === ids[i - 1]);
    if (!before) continue;
    hits += 1;
    hitNats += loss;
  }
  const [row] = rows;
  assert.is(row?.recall_tokens, hits);
  near(row?.recall_loss, hitNats / hits);
  near(row?.first_loss, (nats - hitNats) / (size - hits));
  near(row?.bits_per_byte, nats / Math.LN2 / size);
});

test('the power law of a document comes back, and that of the mean is of the same documents throughout', () => {
  const cells = (document: string, exponent: number, positions: number[]): Row[] =>
    positions.map((position) => ({
      ...{ model: 'm', architecture: 'yoco', self_decoder: null, document, position },
      ...{ documents: null, loss: 4 * position ** -exponent, status: 'ok' },
    }));
  const mean = (position: number, documents: number): Row => ({
    ...{ model: 'm', architecture: 'yoco', self_decoder: null, document: MEAN, position, documents },
    // Where a document is missing, its mean is another's.
    ...{ loss: documents === 2 ? 4 * position ** -0.15 : 9, status: 'ok' },
  });
  const { rows } = perplexityFits([
    ...cells('a', 0.1, [256, 512, 1024, 2048]),
    ...cells('b', 0.2, [256, 512, 1024]),
    ...cells('c', 0.2, [256, 512]),
    ...[256, 512].map((position) => mean(position, 3)),
    ...[1024, 2048].map((position) => mean(position, 2)),
  ]);
  assert.equal(
    rows.map(({ document, positions, to_position: to }) => [document, positions, to]),
    [
      ['a', 4, 2048],
      ['b', 3, 1024],
    ],
    'two positions are not fitted, nor means over other documents',
  );
  near(rows[0]?.exponent, 0.1);
  near(rows[0]?.coefficient, 4);
  near(rows[0]?.relative_error, 0);
  const both = perplexityFits([
    ...cells('a', 0.1, [256, 512, 1024]),
    ...cells('b', 0.2, [256, 512, 1024]),
    ...[256, 512, 1024].map((position) => mean(position, 2)),
    { ...mean(2048, 1), loss: 9 },
  ]).rows;
  near(both[2]?.exponent, 0.15);
  near(both[2]?.exponent_error, 0.05);
  assert.is(both[2]?.to_position, 1024);
});

test('a tokenizer that does not give the text back has no bits per byte', async () => {
  const lower: Tokenizer = {
    ...{ name: 'lower', vocabSize: 264, beginOfText: null, endOfText: 256 },
    ...{ padding: null, stopTokens: [], origins: [] },
    encode: (text) => bytes.encode(text.toLowerCase()),
    encodeAll: (texts) => texts.map((text) => bytes.encode(text.toLowerCase())),
    encodePieces: (pieces) => bytes.encodePieces([...pieces].map((piece) => piece.toLowerCase())),
    encodeDocuments: (documents) =>
      bytes.encodeDocuments(
        Array.from(documents, (pieces) => Array.from(pieces, (piece) => piece.toLowerCase())),
      ),
    encodeParts: (parts) => bytes.encodeParts(parts.map((part) => part.toLowerCase())),
    decode: (ids) => bytes.decode(ids),
  };
  writeFileSync(join(directory, 'case.txt'), 'é small, then Large letters');
  const [document] = await loadDocuments([join(directory, 'case.txt')], lower);
  assert.is(document?.bytesAt(1), 0, 'half a character is not counted');
  assert.is(document?.bytesAt(5), 5);
  assert.is(document?.bytesAt(20), null);
});

test('losses that are not finite are failed rows, which leave nothing; other documents are measured', async () => {
  const before = tf.memory().numTensors;
  const broken = new (class extends StubModel {
    override row(context: readonly number[]): number[] {
      if (context.length > 150) tf.keep(tf.scalar(1));
      return super.row(context).map((value) => (context.length > 150 ? NaN : value));
    }
  })(264);
  // An infinite logit of a token that is not asked for leaves the loss finite.
  const overflowing = new (class extends StubModel {
    override row(context: readonly number[]): number[] {
      return super.row(context).map((value, token) => (token === 0 ? -Infinity : value));
    }
  })(264);
  const infinite = await run(overflowing, ['short.txt'], [50], 'infinite');
  assert.match(String(infinite.rows[0]?.error), /not finite/);
  const { rows } = await run(broken, ['long.txt', 'short.txt'], [50, 100, 300], 'nan');
  const status = (document: string): unknown[] =>
    rows.filter((row) => row.document === document).map((row) => row.status);
  assert.equal(status('long.txt'), ['error', 'error', 'error']);
  assert.equal(status('short.txt'), ['ok', 'ok']);
  assert.equal(status(MEAN), ['error', 'error']);
  assert.is(tf.memory().numTensors, before);
  assert.match(String(rows[0]?.error), /not finite/);
});

test('documents shorter than every position are refused before the work starts', async () => {
  const model = new StubModel(264);
  try {
    await run(model, ['long.txt', 'short.txt'], [200], 'refused');
    assert.unreachable();
  } catch (error) {
    assert.match(
      (error as Error).message,
      /short\.txt has 100 tokens, fewer than the shortest position asked for, 200/,
    );
  }
  assert.is(model.consumed, 0);
});

test.run();
