import { readFileSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCorpus } from '../../src/data/corpus.js';
import { declaredConfigurations, filesOfPart, splitsByName } from '../../src/data/hub/card.js';
import { listElements } from '../../src/data/json-list.js';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import { refuses, rejects } from '../checkpoint/scratch.js';
import { makeCheckpoint, SMALL } from '../checkpoint/checkpoints.js';
import { runCli } from '../cli/run.js';
import { TINY_PARQUET } from './parquet.js';
import { withHub } from './environment.js';

const test = suite('hub: data sets');
const { server, at } = withHub(test);

const lines = (...texts: string[]): string => texts.map((text) => `${JSON.stringify({ text })}\n`).join('');

const CARD = `---
license: mit
configs:
- config_name: main
  default: true
  data_files:
  - split: train
    path: "a/part-*.jsonl"
  - split: test
    path: [b.jsonl]
- config_name: small
  data_dir: s
---
# A data set
`;

const SET = {
  'README.md': CARD,
  'a/part-0.jsonl': lines('one', 'two'),
  'a/part-1.jsonl': lines('three'),
  'b.jsonl': lines('four'),
  's/train.jsonl': lines('five'),
  's/dev.jsonl': lines('six'),
};

const textOf = async (spec: string): Promise<string> => (await loadCorpus(spec)).text('all', '|');

test('a split is what the card says', async () => {
  server.add('datasets', 'owner/set', SET);
  assert.is(await textOf('hf:owner/set:train'), 'one|two|three|');
  assert.is(await textOf('hf:owner/set:test'), 'four|');
  assert.is(await textOf('hf:owner/set:small/validation'), 'six|');
  assert.is(await textOf('hf:owner/set:a/*.jsonl'), 'one|two|three|');
  assert.is(await textOf('hf:owner/set:b.jsonl'), 'four|');
  for (const [spec, expected] of [
    ['hf:owner/set', /has several splits: name one as hf:owner\/name:SPLIT, of train, test/],
    ['hf:owner/set:dev', /has no split 'dev'.*of train, test/],
    ['hf:owner/set:large/train', /has no configuration 'large'.*of main, small/],
    ['hf:owner/set:c.jsonl', /no file of the data set matches: a\/part-0\.jsonl/],
  ] as const) {
    await rejects(loadCorpus(spec), expected);
  }
});

test('without a card the names say it', async () => {
  server.add('datasets', 'owner/plain', { 'data/train-00000-of-00001.parquet': TINY_PARQUET });
  assert.is(await textOf('hf:owner/plain'), 'first row|second row|third row|');
  server.add('datasets', 'owner/folders', { 'x/test/0.jsonl': lines('a'), 'y/test/0.jsonl': lines('b') });
  assert.is(await textOf('hf:owner/folders:y/test'), 'b|');
  await rejects(loadCorpus('hf:owner/folders:test'), /several configurations.*of x, y/);
  server.add('datasets', 'owner/mixed', { 'train.jsonl': lines('a'), 'train.txt': 'b' });
  await rejects(loadCorpus('hf:owner/mixed'), /several kinds: name them by a glob/);
  server.add('datasets', 'owner/script', { 'set.py': '' });
  await rejects(loadCorpus('hf:owner/script:train'), /no \.parquet, .*refs\/convert\/parquet/);
  assert.equal(
    [
      ...splitsByName([
        'train.txt',
        'en/valid_1.txt',
        'dev/x.txt',
        'my-tests.txt',
        'eval/train-2.txt',
        'latest.txt',
      ]),
    ],
    [
      ['train', ['train.txt', 'my-tests.txt', 'eval/train-2.txt', 'latest.txt']],
      ['validation', ['en/valid_1.txt', 'dev/x.txt']],
    ],
  );
});

test('a card that is malformed is named', () => {
  const read = (card: string): unknown => declaredConfigurations('hf:a/b: README.md', card, ['x.jsonl']);
  refuses(() => read('---\nconfigs: [\n---\n'), /hf:a\/b: README\.md: its YAML is malformed/);
  refuses(() => read('---\nconfigs: {a: 1}\n---\n'), /README\.md: configs/);
  assert.equal(read('# no front matter'), []);
  const configurations = declaredConfigurations('x', '---\nconfigs:\n- data_files: "*.jsonl"\n---\n', [
    'x.jsonl',
  ]);
  assert.equal(filesOfPart('hf:a/b', configurations), ['x.jsonl']);
});

test('rows of .json files are read as a list or as lines', async () => {
  const rows = [{ text: 'a, [b] {c} "d" \\ \n e', more: [1, { x: ']' }] }, { text: 'ü' }, { text: 'z' }];
  writeFileSync(at('list.json'), JSON.stringify(rows, null, 2));
  writeFileSync(at('lines.json'), rows.map((row) => JSON.stringify(row)).join('\n'));
  const expected = rows.map(({ text }) => text).join('|') + '|';
  assert.is(await textOf(at('list.json')), expected);
  assert.is(await textOf(at('lines.json')), expected);
  for (const size of [1, 2, 3, 7]) {
    const text = JSON.stringify(rows, null, 1);
    const pieces = async function* (): AsyncGenerator<string> {
      for (let from = 0; from < text.length; from += size)
        yield await Promise.resolve(text.slice(from, from + size));
    };
    let out = '';
    for await (const part of listElements(pieces())) out += part;
    const parsed = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
    assert.equal(parsed, rows, `pieces of ${size}`);
  }
  writeFileSync(at('object.json'), '{"a": 1}');
  await rejects(loadCorpus(at('object.json')), /object\.json:1: expected an object with a text/);
});

test('a command takes model, tokenizer and data from the hub, and its record says what they were', async () => {
  await makeCheckpoint(at('model'), { ...SMALL.retention, vocabSize: 264 });
  const files = ['config.json', 'model.safetensors'].map(
    (name) => [name, readFileSync(at(`model/${name}`))] as const,
  );
  const model = server.add('models', 'owner/small', Object.fromEntries(files));
  server.add('datasets', 'owner/set', SET);
  const checkpoint = 'hf:owner/small';
  const out = at('out');
  const { exitCode, stderr } = await runCli(
    ...[
      'perplexity',
      'hf:owner/set:small/validation',
      '--checkpoint',
      checkpoint,
      '--ctx',
      '2',
      '--out',
      out,
      '--format',
      'csv',
    ],
  );
  assert.is(exitCode, 0, stderr);
  assert.match(readFileSync(`${out}/perplexity.csv`, 'utf8'), /^small,/m);
  const record = JSON.parse(readFileSync(`${out}/perplexity.run.json`, 'utf8')) as {
    hub: Record<string, { commit: string; kind: string; files: Record<string, string> }[]>;
  };
  assert.is(record.hub[checkpoint]?.[0]?.commit, model.commits[0]);
  const data = record.hub['hf:owner/set:small/validation']?.[0];
  assert.is(data?.kind, 'dataset');
  assert.match(data?.files['s/dev.jsonl'] ?? '', /^git-sha1:[0-9a-f]{40}$/);
});

test('a tokenizer is fetched without the weights of its model', async () => {
  server.add('models', 'owner/model', {
    'config.json': '{}',
    'model.safetensors': 'x',
    'tokenizer.json': '{}',
  });
  await rejects(loadTokenizer('hf:owner/model'), /snapshots\/[0-9a-f]{40}\/tokenizer\.json/);
  assert.not.ok(server.asked.some(({ path }) => path.includes('safetensors')));
  server.add('models', 'owner/none', { 'config.json': '{}' });
  await rejects(loadTokenizer('hf:owner/none'), /has no tokenizer\.json/);
});

test.run();
