import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from 'yaml';
import { makeCheckpoint, SMALL } from '../checkpoint/checkpoints.js';
import { runCli } from '../cli/run.js';
import { withHub } from './environment.js';

const test = suite('hub: push');
const { server, at } = withHub(test);

test.before.each(async () => {
  await makeCheckpoint(at('run'), SMALL.retention ?? {});
  writeFileSync(at('run/training.json'), '{}');
  const record = {
    command: ['yoco', 'train'],
    configuration: { recipe: { steps: 7 } },
    inputs: { sotu: 'abc' },
  };
  writeFileSync(at('run/train.run.json'), JSON.stringify(record));
  writeFileSync(at('run/train.csv'), 'step,tokens,loss,held_out_loss\n1,10,5.5,\n2,20,4.5,4.75\n');
  process.env.HF_TOKEN = 'hf_secret';
});

test('files and a card go to a repository that is made for them', async () => {
  const { exitCode, stdout, stderr } = await runCli(
    'push',
    at('run'),
    'owner/books',
    '--license',
    'mit',
    '--private',
  );
  assert.is(exitCode, 0, stderr);
  assert.is(stdout, `${server.endpoint}/owner/books\n`);
  assert.is(server.repositories.find(({ name }) => name === 'owner/books')?.isPrivate, true);
  const [commit] = server.commits;
  assert.equal([...(commit?.files.keys() ?? [])].sort(), ['README.md', 'config.json', 'model.safetensors']);
  for (const name of ['config.json', 'model.safetensors']) {
    assert.equal(commit?.files.get(name), readFileSync(at(`run/${name}`)), name);
  }
  const card = commit?.files.get('README.md')?.toString() ?? '';
  const [, front = ''] = /^---\n([^]*?)---\n/.exec(card) ?? [];
  assert.equal(parse(front), { license: 'mit', library_name: 'yoco', tags: ['yoco'] });
  for (const part of [
    '"selfHeads": 2',
    '"steps": 7',
    '"sotu": "abc"',
    '| 2 | 20 | 4.5 | 4.75 |',
    'hf:owner/books',
  ]) {
    assert.ok(card.includes(part), `${part}\n${card}`);
  }
});

test('a repository that is there takes another commit; a card of the directory is kept', async () => {
  server.add('models', 'owner/books', {});
  writeFileSync(at('run/README.md'), '# mine');
  const { exitCode, stderr } = await runCli('push', at('run'), 'owner/books', '--private');
  assert.is(exitCode, 0, stderr);
  assert.match(stderr, /was there already: whether it is private has not changed/);
  assert.is(server.commits[0]?.files.get('README.md')?.toString(), '# mine');
});

test('nothing is sent without a token, from a damaged checkpoint, or in a dry run', async () => {
  const dry = await runCli('push', at('run'), 'owner/books', '--dry-run');
  assert.is(dry.exitCode, 0, dry.stderr);
  assert.match(dry.stdout, /# books/);
  assert.match(dry.stderr, /to be sent to owner\/books: config\.json, model\.safetensors, README\.md/);
  mkdirSync(at('empty'));
  for (const [words, change, expected, status] of [
    [['push', at('run'), 'books'], {}, /write owner\/name/, 2],
    [['push', at('empty'), 'owner/books'], {}, /no checkpoint/, 2],
    [['push', at('run'), 'owner/books'], { HF_TOKEN: '' }, /push needs a token/, 2],
    [
      ['push', at('run'), 'owner/books'],
      { HF_HUB_OFFLINE: '1', HF_TOKEN: 'hf_secret' },
      /unset it to push/,
      2,
    ],
    [
      ['push', at('run'), 'owner/books'],
      { HF_HUB_OFFLINE: '0', HF_TOKEN: 'wrong' },
      /does not accept the token from HF_TOKEN/,
      1,
    ],
  ] as const) {
    Object.assign(process.env, change);
    const { exitCode, stderr } = await runCli(...words);
    assert.match(stderr, expected);
    assert.is(exitCode, status, stderr);
  }
  const weights = readFileSync(at('run/model.safetensors'));
  weights.writeFloatLE(NaN, weights.length - 4);
  writeFileSync(at('run/model.safetensors'), weights);
  const { stderr } = await runCli('push', at('run'), 'owner/books');
  assert.match(stderr, /has values that are not finite: the checkpoint is not pushed/);
  assert.is(server.commits.length, 0);
  assert.not.ok(server.asked.some(({ path }) => path.includes('/commit/')));
});

test.run();
