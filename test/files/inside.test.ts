import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { readJson, writeJson } from '../../src/checkpoint/files.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { insideFile } from '../../src/files/inside.js';
import { readBytes } from '../../src/files/read.js';
import { RepositoryCache } from '../../src/hub/cache.js';
import { packageRoot } from '../../src/package-root.js';
import { contents, makeCheckpoint, SMALL } from '../checkpoint/checkpoints.js';
import { refuses, rejects, scratchDirectory } from '../checkpoint/scratch.js';

const test = suite('files/inside');
const at = scratchDirectory(test);

/** Where a file names a file, and what opens it. Whoever adds such a place adds it here. */
const PLACES: Readonly<Record<string, (name: unknown) => unknown>> = {
  'src/checkpoint/formats/native.ts': (name) => {
    writeJson(at('model/config.json'), { ...readJson(at('model/config.json')), tokenizer: name });
    openCheckpoint(at('model')).tensors.close();
  },
  'src/checkpoint/sharded.ts': (name) => {
    const index = at('sharded/model.safetensors.index.json');
    const { weight_map: map } = readJson(index);
    const first = Object.keys(map as object)[0] ?? '';
    writeJson(index, { weight_map: { ...(map as object), [first]: name } });
    openCheckpoint(at('sharded')).tensors.close();
  },
  'src/hub/cache.ts': (name) => {
    const commit = 'a'.repeat(40);
    const cache = new RepositoryCache(at('hub'), 'model', 'owner/name');
    mkdirSync(cache.snapshot(commit), { recursive: true });
    if (!existsSync(join(cache.snapshot(commit), 'up'))) {
      symlinkSync(at('secret.safetensors'), join(cache.snapshot(commit), 'link.safetensors'));
      symlinkSync(at(), join(cache.snapshot(commit), 'up'));
    }
    cache.file(commit, { path: name as string });
  },
};

const OUTSIDE = [
  '/etc/passwd',
  '../secret.safetensors',
  'a/../../secret.safetensors',
  '/dev/zero',
  '',
  'x\0y',
  '..',
];

async function prepare(): Promise<void> {
  await makeCheckpoint(at('model'), SMALL.retention ?? {});
  await convertCheckpoint(at('model'), at('sharded'), { to: 'yoco', maxShardBytes: 2000 });
  writeFileSync(at('secret.safetensors'), 'secret');
  for (const directory of ['model', 'sharded']) {
    symlinkSync(at('secret.safetensors'), at(`${directory}/link.safetensors`));
    symlinkSync(at(), at(`${directory}/up`));
  }
}

test('a name in a file never leads out of its directory', async () => {
  await prepare();
  for (const [place, open] of Object.entries(PLACES)) {
    for (const name of [...OUTSIDE, 'link.safetensors', 'up/secret.safetensors', 7, null, {}]) {
      if (name === null && place.endsWith('native.ts')) continue;
      refuses(() => open(name), /config\.json|index\.json|list of files/);
    }
  }
});

test('every place where a file names a file is listed here', () => {
  const sources = readdirSync(join(packageRoot, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(packageRoot, 'src', name));
  const callers = sources.filter((file) => /\binsideFile\(/.test(readFileSync(file, 'utf8')));
  const others = [
    'src/files/inside.ts',
    'src/checkpoint/formats/tokenizer-files.ts',
    // What a server shows: tested in report/live.
    'src/report/live/inside.ts',
  ];
  assert.equal(
    callers.map((file) => relative(packageRoot, file)).sort(),
    [...Object.keys(PLACES), ...others].sort(),
  );
});

test('convert copies no file that is not the checkpoint’s', async () => {
  await prepare();
  writeFileSync(at('secret.json'), '{"password": 1}');
  symlinkSync(at('secret.json'), at('model/generation_config.json'));
  writeFileSync(at('model/tokenizer.json'), '{}');
  writeJson(at('model/config.json'), { ...readJson(at('model/config.json')), tokenizer: 'tokenizer.json' });
  await rejects(
    convertCheckpoint(at('model'), at('out'), { to: 'yoco' }),
    /generation_config\.json.* link out/,
  );
  assert.not(existsSync(at('out')));
});

test('the links of a download cache are read and copied', async () => {
  await makeCheckpoint(at('model'), SMALL.transformer ?? {});
  await convertCheckpoint(at('model'), at('hf'), { to: 'huggingface' });
  const vocab = Object.fromEntries(Array.from({ length: 264 }, (_, id) => [`t${id}`, id]));
  const tokenizer = { model: { type: 'BPE', vocab, merges: [] } };
  writeFileSync(at('hf/tokenizer.json'), JSON.stringify(tokenizer));
  const snapshot = at('cache/models--a--b/snapshots/0123');
  mkdirSync(snapshot, { recursive: true });
  mkdirSync(at('cache/models--a--b/blobs'));
  for (const [index, name] of readdirSync(at('hf')).entries()) {
    writeFileSync(at(`cache/models--a--b/blobs/${index}`), readFileSync(at(`hf/${name}`)));
    symlinkSync(`../../blobs/${index}`, join(snapshot, name));
  }
  await convertCheckpoint(snapshot, at('out'), { to: 'huggingface' });
  assert.equal(contents(at('out')), contents(at('hf')));
  assert.ok(existsSync(at('out/tokenizer.json')));
  assert.is(insideFile(snapshot, 'config.json', 'a test'), join(snapshot, 'config.json'));
});

test('only regular files are read, and no more than a limit', () => {
  writeFileSync(at('large'), 'x'.repeat(101));
  refuses(() => readBytes(at('large'), 100), /large: refused: it has 101 bytes, at most 100 are read/);
  refuses(() => readBytes(at(), 100), /not a regular file/);
  if (process.platform === 'win32') return;
  spawnSync('mkfifo', [at('pipe')]);
  refuses(() => readBytes(at('pipe'), 100), /pipe: it is not a regular file/);
  refuses(() => readBytes('/dev/zero', 100), /not a regular file/);
  mkdirSync(at('piped'));
  spawnSync('mkfifo', [at('piped/config.json')]);
  refuses(() => openCheckpoint(at('piped')), /config\.json: it is not a regular file/);
});

test.run();
