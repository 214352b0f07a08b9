import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { localCheckpoint } from '../../src/checkpoint/hub.js';
import { lockDirectory } from '../../src/files/lock.js';
import { parseReference } from '../../src/hub/reference.js';
import { hubInputs, openRepository } from '../../src/hub/repository.js';
import { observeHub } from '../../src/hub/observer.js';
import { Random } from '../../src/random.js';
import { rejects } from '../checkpoint/scratch.js';
import { withHub } from './environment.js';
import { gitSha1, sha256 } from './repositories.js';
import { HubServer, type Fault } from './server.js';

const test = suite('hub: downloads');
const { server, at } = withHub(test);

const random = new Random(5);
const bytes = (length: number): Buffer => Buffer.from(Array.from({ length }, () => random.below(256)));

const WEIGHTS = bytes(300_000);
const FILES = {
  'config.json': '{"a": 1}\n',
  'model.safetensors': WEIGHTS,
  'notes/big.bin': bytes(10),
  'tokenizer.json': '{}',
};
const NAME = 'owner/model';
const FOLDER = 'hub/models--owner--model';

/** Orders a fault for the next request of a path. */
const failNext = (path: RegExp, fault: Fault): void => {
  server.faults.push((asked) => (path.test(asked.path) ? fault : undefined));
};
const downloads = (): string[] =>
  server.asked.filter(({ path }) => /resolve|cdn/.test(path)).map(({ path }) => path);

test('files needed are fetched into the shared layout, once, and recorded', async () => {
  const { commits } = server.add('models', NAME, FILES);
  const [commit = ''] = commits;
  const directory = await localCheckpoint(`hf:${NAME}`);
  assert.is(directory, at(`${FOLDER}/snapshots/${commit}`));
  assert.equal(readdirSync(directory).sort(), ['config.json', 'model.safetensors', 'tokenizer.json']);
  assert.equal(readFileSync(`${directory}/model.safetensors`), WEIGHTS);
  assert.is(readlinkSync(`${directory}/model.safetensors`), `../../blobs/${sha256(WEIGHTS)}`);
  assert.is(
    readlinkSync(`${directory}/config.json`),
    `../../blobs/${gitSha1(Buffer.from(FILES['config.json']))}`,
  );
  assert.is(readFileSync(at(`${FOLDER}/refs/main`), 'utf8'), commit);
  const asked = server.asked.length;
  assert.is(await localCheckpoint(`hf:${NAME}`), directory);
  assert.is(server.asked.length, asked, 'a second look asks nothing');
  const [input] = hubInputs([`hf:${NAME}`, 'other'])[`hf:${NAME}`] ?? [];
  assert.is(input?.commit, commit);
  assert.is(input?.files['model.safetensors'], `sha256:${sha256(WEIGHTS)}`);
  assert.match(input?.files['config.json'] ?? '', /^git-sha1:/);
});

test('the token goes to the hub and not to where its files are stored', async () => {
  server.add('models', NAME, FILES, { isPrivate: true });
  await rejects(localCheckpoint(`hf:${NAME}`), /no such repository, or it is private.*HF_TOKEN/);
  process.env.HF_TOKEN = 'wrong';
  await rejects(localCheckpoint(`hf:${NAME}`), /no such repository, or it is private/);
  process.env.HF_TOKEN = 'hf_secret';
  await localCheckpoint(`hf:${NAME}`);
  const seen = server.asked.filter(({ headers }) => headers.authorization === 'Bearer hf_secret');
  assert.ok(seen.some(({ path }) => path.includes('/resolve/')));
  const stored = server.asked.filter(({ path }) => path.startsWith('/cdn/'));
  assert.equal(
    stored.map(({ headers }) => headers.authorization),
    [undefined],
  );
});

test('a broken connection resumes where it broke, also in a later run', async () => {
  server.add('models', NAME, FILES);
  for (const breakAfter of [100_000, 50_000]) failNext(/cdn/, { breakAfter });
  const directory = await localCheckpoint(`hf:${NAME}`);
  assert.equal(readFileSync(`${directory}/model.safetensors`), WEIGHTS);
  const ranges = server.asked
    .filter(({ path }) => path.startsWith('/cdn'))
    .map(({ headers }) => headers.range);
  assert.is(ranges.length, 3);
  const from = ranges.map((range) => Number(/\d+/.exec(range ?? '0')?.[0]));
  assert.ok(from[0] === 0 && (from[1] ?? 0) > 0 && (from[2] ?? 0) > (from[1] ?? 0), from.join());

  const other = server.add('models', 'owner/later', FILES);
  const blob = at(`hub/models--owner--later/blobs/${sha256(WEIGHTS)}`);
  mkdirSync(dirname(blob), { recursive: true });
  writeFileSync(`${blob}.yoco-partial`, WEIGHTS.subarray(0, 12_345));
  const later = await localCheckpoint(`hf:${other.name}`);
  assert.is(server.asked.filter(({ path }) => path.startsWith('/cdn')).at(-1)?.headers.range, 'bytes=12345-');
  assert.equal(readFileSync(`${later}/model.safetensors`), WEIGHTS);
  assert.not.ok(existsSync(`${blob}.yoco-partial`));
});

test('wrong bytes are refused, whatever the file, and fetched anew the next time', async () => {
  server.add('models', NAME, FILES);
  for (const [path, name, content] of [
    [/config\.json/, 'config.json', Buffer.from('{"a": 2}\n')],
    [/cdn/, 'model.safetensors', bytes(WEIGHTS.length)],
  ] as const) {
    failNext(path, { content });
    await rejects(
      localCheckpoint(`hf:${NAME}`),
      new RegExp(`"${name}" is damaged: its (sha256|git-sha1) is`),
    );
    assert.not.ok(readdirSync(at(`${FOLDER}/blobs`)).some((file) => file.endsWith('partial')));
  }
  const directory = await localCheckpoint(`hf:${NAME}`);
  assert.equal(readFileSync(`${directory}/model.safetensors`), WEIGHTS);
});

test('what an earlier run left damaged is found by its checksum, not resumed for ever', async () => {
  server.add('models', NAME, FILES);
  const blob = at(`${FOLDER}/blobs/${sha256(WEIGHTS)}`);
  mkdirSync(dirname(blob), { recursive: true });
  writeFileSync(`${blob}.yoco-partial`, bytes(1000));
  await rejects(localCheckpoint(`hf:${NAME}`), /is damaged/);
  assert.ok(await localCheckpoint(`hf:${NAME}`));
});

test('waits as the hub asks, tries again after trouble, and gives up in one line', async () => {
  server.add('models', NAME, FILES);
  const now = { 'Retry-After': '0' };
  for (const status of [429, 503, 500]) failNext(/revision/, { status, headers: now });
  failNext(/cdn/, { status: 502, headers: now });
  assert.ok(await localCheckpoint(`hf:${NAME}`));
  server.add('models', 'owner/busy', FILES);
  for (let times = 0; times < 5; times += 1) failNext(/busy/, { status: 429, headers: now });
  await rejects(localCheckpoint('hf:owner/busy'), /too many requests: try again later, or set HF_TOKEN/);
  failNext(/busy/, { status: 429, headers: { 'Retry-After': '3600' } });
  await rejects(localCheckpoint('hf:owner/busy'), /asks to wait 3600 s/);
  const closed = new HubServer();
  await closed.start();
  process.env.HF_ENDPOINT = closed.endpoint;
  await closed.stop();
  await rejects(localCheckpoint(`hf:${NAME}`), /cannot reach http:\S+ \(ECONNREFUSED\).*HF_HUB_OFFLINE/);
});

test('says what is not there, and what is restricted', async () => {
  server.add('models', NAME, FILES);
  server.add('models', 'owner/gated', FILES, { isGated: true });
  server.add('models', 'owner/torch', { 'config.json': '{}', 'pytorch_model.bin': 'x' });
  server.add('models', 'owner/empty', { 'README.md': '' });
  for (const [name, expected] of [
    ['owner/none', /hf:owner\/none: .* has no such repository/],
    [`${NAME}@nowhere`, /hf:owner\/model@nowhere: the repository has no such revision/],
    ['owner/gated', /access is restricted: accept the terms/],
    ['owner/torch', /only in a form that is not read \(pytorch_model\.bin\)/],
    ['owner/empty', /holds no checkpoint/],
    [`${NAME}:train`, /a checkpoint has no split/],
  ] as const) {
    await rejects(localCheckpoint(`hf:${name}`), expected);
  }
  failNext(/revision/, { status: 401 });
  process.env.HF_TOKEN = 'old';
  await rejects(localCheckpoint(`hf:${NAME}`), /does not accept the token from HF_TOKEN/);
});

test('one set of weights is taken where a repository has several', async () => {
  const weights = Object.fromEntries(
    [
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
      'model.safetensors.index.json',
    ].map((name) => [name, name]),
  );
  const others = { 'consolidated.safetensors': '1', 'consolidated.00.pth': '2', 'pytorch_model.bin': '3' };
  server.add('models', NAME, { 'config.json': '{}', ...weights, ...others, 'training.safetensors': '4' });
  const directory = await localCheckpoint(`hf:${NAME}`);
  assert.equal(readdirSync(directory).sort(), ['config.json', ...Object.keys(weights)].sort());
});

test('a revision stays what it was in a process; a commit that is cached asks nothing', async () => {
  const repository = server.add('models', NAME, FILES);
  const first = await localCheckpoint(`hf:${NAME}`);
  const second = server.commit(repository, { ...FILES, 'config.json': '{"b": 2}' });
  assert.is(await localCheckpoint(`hf:${NAME}`), first);
  const moved = await localCheckpoint(`hf:${NAME}@${second}`);
  assert.match(readFileSync(`${moved}/config.json`, 'utf8'), /"b"/);
  assert.is(
    downloads().filter((path) => path.startsWith('/cdn')).length,
    1,
    'the same weights are fetched once',
  );
});

test('without the network the cache serves, and says what it lacks', async () => {
  const repository = server.add('models', NAME, FILES);
  const directory = await localCheckpoint(`hf:${NAME}`);
  process.env.HF_HUB_OFFLINE = '1';
  const asked = server.asked.length;
  assert.is(await localCheckpoint(`hf:${NAME}`), directory);
  assert.is(await localCheckpoint(`hf:${NAME}@${repository.commits[0] ?? ''}`), directory);
  await rejects(localCheckpoint('hf:owner/never'), /is not in the cache .* HF_HUB_OFFLINE/);
  const open = await openRepository('model', parseReference(`hf:${NAME}`));
  await rejects(
    open.fetch(open.files?.filter(({ path }) => path === 'notes/big.bin') ?? []),
    /"notes\/big\.bin" is not in/,
  );
  assert.is(server.asked.length, asked);
});

test('names that lead out of the cache are refused before anything is written', async () => {
  for (const [index, path] of [
    '../../../out.json',
    '/tmp/out.json',
    'a/../../out',
    'C:\\out',
    'a\\..\\..\\out',
  ].entries()) {
    const name = `owner/evil-${index}`;
    server.add('models', name, { ...FILES, [path]: 'x' });
    const open = await openRepository('model', parseReference(`hf:${name}`));
    const evil = open.files?.filter((file) => file.path === path) ?? [];
    assert.is(evil.length, 1);
    await rejects(open.fetch(evil), /is not a file of the directory/);
  }
  assert.equal(downloads(), []);
});

test('a list that is none is refused', async () => {
  const repository = server.add('models', NAME, FILES);
  repository.commits[0] = '../evil';
  await rejects(localCheckpoint(`hf:${NAME}`), /names no commit/);
});

test('a process that downloads is waited for', async () => {
  server.add('models', NAME, FILES);
  const lines: string[] = [];
  const unlock = lockDirectory(at('hub/.locks/models--owner--model'), 'yoco', { doing: 'downloading' });
  observeHub({
    progress: () => undefined,
    end: () => undefined,
    note: (line) => {
      lines.push(line);
      assert.equal(downloads(), []);
      unlock();
    },
  });
  try {
    assert.ok(lstatSync(await localCheckpoint(`hf:${NAME}`)).isDirectory());
  } finally {
    observeHub(null);
  }
  assert.match(lines.join(), /^waiting: .*is downloading there/);
});

test.run();
