import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { symlinkSync, writeFileSync } from 'node:fs';
import { chooseModels } from '../../src/sweep/models.js';
import { makeCheckpoint, SMALL } from '../checkpoint/checkpoints.js';
import { refuses, scratchDirectory } from '../checkpoint/scratch.js';

const test = suite('sweep/models');
const at = scratchDirectory(test);

test('a model named twice is refused, models that can be told apart are not', async () => {
  await makeCheckpoint(at('one/run'), SMALL.retention ?? {});
  await makeCheckpoint(at('two/run'), SMALL.retention ?? {});
  symlinkSync(at('one/run'), at('link'));
  const names = (...checkpoint: string[]): string[] =>
    chooseModels({ checkpoints: checkpoint }).map(({ name }) => name);
  const [first = '', second = ''] = names(at('one/run'), at('two/run'));
  assert.match(first, /one\/run$/);
  assert.match(second, /two\/run$/, 'checkpoints of one base name are called by their paths');
  refuses(() => names(at('one/run'), at('two/run'), at('one/../one/run')), /checkpoint .*run is given twice/);
  refuses(() => names(at('one/run'), at('link')), /is given twice/);
  refuses(() => chooseModels({ presets: ['nano', 'nano'] }), /two models are called 'nano yoco/);
  refuses(() => chooseModels({ architectures: ['yoco', 'yoco'] }), /two models are called/);
  assert.is(chooseModels({ architectures: ['yoco', 'transformer'], presets: ['nano', 'tiny'] }).length, 4);
  writeFileSync(at('a.json'), JSON.stringify(SMALL.transformer));
  refuses(
    () => chooseModels({ configs: [at('a.json'), at('a.json')] }),
    /two models are called 'a transformer'/,
  );
});

test("a configuration that cannot be read or is another program's is refused with its file", () => {
  const refused = (fields: object, expected: RegExp): void => {
    writeFileSync(at('c.json'), JSON.stringify(fields));
    refuses(() => chooseModels({ configs: [at('c.json')] }), expected);
  };
  refused({ ...SMALL.transformer, layers: undefined }, /c\.json: configuration: layers must be .* missing/);
  for (const checkpoint of [
    { format: 'yoco-checkpoint', model: SMALL.transformer },
    { model_type: 'llama', hidden_size: 8 },
  ]) {
    refused(checkpoint, /c\.json is the configuration of a checkpoint: name its directory \(--checkpoint /);
  }
});

test.run();
