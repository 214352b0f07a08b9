import { mkdirSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../src/errors.js';
import { parseReference, parseRepositoryName } from '../../src/hub/reference.js';
import { hubSettings } from '../../src/hub/settings.js';
import { refuses, scratchDirectory } from '../checkpoint/scratch.js';

const test = suite('hub: references and settings');
const at = scratchDirectory(test);

test('a reference has a repository, a revision and a part; other texts are refused', () => {
  assert.equal(parseReference('hf:a/b@refs/pr/1:c/d#e'), {
    ...{
      text: 'hf:a/b@refs/pr/1:c/d#e',
      repository: 'a/b',
      revision: 'refs/pr/1',
      part: 'c/d',
      stateDict: 'e',
    },
  });
  assert.is(parseReference('hf:gpt2').revision, 'main');
  for (const text of [
    'hf:',
    'hf:a/b/c',
    'hf:../b',
    'hf:a/..',
    'hf:a--b/c',
    'hf:a/b@../x',
    'hf:a/b@',
    'hf:a b/c',
    'hf:/b',
  ]) {
    assert.throws(
      () => parseReference(text),
      (error: unknown) => error instanceof UsageError,
      text,
    );
  }
  assert.is(parseRepositoryName('hf:a/b'), 'a/b');
  refuses(() => parseRepositoryName('a'), /write owner\/name/);
});

test('settings come from the variables of the Hugging Face libraries', () => {
  const home = { HF_HOME: at('home') };
  assert.is(hubSettings({}).endpoint, 'https://huggingface.co');
  assert.is(hubSettings({ XDG_CACHE_HOME: '/x' }).cache, '/x/huggingface/hub');
  assert.is(hubSettings({ ...home, HF_HUB_CACHE: '/y' }).cache, '/y');
  assert.equal(
    [hubSettings({ HF_HUB_OFFLINE: 'yes' }).offline, hubSettings({ HF_HUB_OFFLINE: '0' }).offline],
    [true, false],
  );
  assert.is(hubSettings({ TRANSFORMERS_OFFLINE: '1' }).offline, true);
  assert.is(hubSettings(home).token, null);
  mkdirSync(at('home'));
  writeFileSync(at('home/token'), 'from-file\n');
  writeFileSync(at('other'), 'from-path');
  assert.is(hubSettings(home).token?.value, 'from-file');
  assert.is(hubSettings({ ...home, HF_TOKEN_PATH: at('other') }).token?.value, 'from-path');
  assert.is(hubSettings({ ...home, HF_TOKEN: ' from-variable ' }).token?.value, 'from-variable');
  refuses(() => hubSettings({ HF_ENDPOINT: 'nowhere' }), /HF_ENDPOINT 'nowhere' is no address/);
});

test.run();
