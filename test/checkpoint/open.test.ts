import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { readJson, writeJson } from '../../src/checkpoint/files.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { TorchArchive } from '../../src/checkpoint/torch-archive.js';
import { writeTorchArchive } from '../../src/checkpoint/torch-writer.js';
import { chooseModels } from '../../src/sweep/models.js';
import { contents, makeCheckpoint, SMALL } from './checkpoints.js';
import { refuses, scratchDirectory } from './scratch.js';

const LLAMA3 = {
  type: 'llama3',
  factor: 8,
  lowFrequencyFactor: 1,
  highFrequencyFactor: 4,
  originalContext: 8192,
} as const;

const test = suite('checkpoint/open');
const at = scratchDirectory(test);

async function official(): Promise<string> {
  await makeCheckpoint(at('source'), SMALL.retention ?? {});
  await convertCheckpoint(at('source'), at('official'), { to: 'official' });
  return at('official');
}

/** The same tensors under several prefixes, those of `ema` all zeros. */
async function twoStateDicts(directory: string): Promise<void> {
  const file = TorchArchive.open(`${directory}/checkpoint.pth`);
  const entries = ['ema', 'model'].flatMap((prefix) =>
    file.names().map((name) => {
      const bytes = file.readBytes(name);
      return {
        name: `${prefix}.${name}`,
        ...file.info(name),
        data: prefix === 'ema' ? bytes.fill(0) : bytes,
      };
    }),
  );
  file.close();
  await writeTorchArchive(`${directory}/checkpoint.pth`, entries);
}

test('of several state dicts none is taken unasked', async () => {
  const directory = await official();
  await twoStateDicts(directory);
  refuses(() => openCheckpoint(directory), /several state dicts \("ema", "model"\): name one .*DIR#ema/);
  refuses(() => openCheckpoint(`${directory}#none`), /has no state dict "none"; it has "ema", "model"/);
  assert.equal(contents(`${directory}#model`), contents(at('source')));
  assert.not.equal(contents(`${directory}#ema`), contents(at('source')));
  refuses(() => openCheckpoint(`${at('source')}#ema`), /holds one model: leave '#ema' out/);
  const choices = chooseModels({ checkpoints: [`${directory}#ema`, `${directory}#model`] });
  assert.equal(
    choices.map(({ name }) => name),
    ['official#ema', 'official#model'],
  );
  for (const { checkpoint } of choices) checkpoint?.tensors.close();
  refuses(() => chooseModels({ checkpoints: [`${directory}#ema`, `${directory}#ema`] }), /given twice/);
});

test('a directory with the sign in its name is itself', async () => {
  await makeCheckpoint(at('run#2'), SMALL.retention ?? {});
  openCheckpoint(at('run#2')).tensors.close();
});

test('a field that params.json lacks is called by its name there', async () => {
  const file = `${await official()}/params.json`;
  const params = readJson(file);
  for (const name of ['n_layers', 'hidden_dim', 'n_attn_heads', 'vocab_size']) {
    writeJson(file, { ...params, [name]: undefined });
    refuses(() => openCheckpoint(at('official')), new RegExp(`params\\.json: .*\\b${name}\\b.*missing`));
  }
});

test('the rotary factor of Llama 3 is known by the shape, or must be given', async () => {
  await makeCheckpoint(at('source'), SMALL.scaled ?? {});
  await convertCheckpoint(at('source'), at('meta'), { to: 'meta' });
  const params = readJson(at('meta/params.json'));
  const open = (change: object): void => {
    writeJson(at('meta/params.json'), { ...params, ...change });
    openCheckpoint(at('meta')).tensors.close();
  };
  open({ rope_scaling_factor: 32 });
  refuses(() => {
    open({ rope_scaling_factor: undefined });
  }, /use_scaled_rope without a factor, which is 8 for Llama 3\.1 and 32 for Llama 3\.2: add the field/);
  // The shape of Llama 3.2 with a billion parameters gets as far as its tensors.
  refuses(() => {
    open({
      rope_scaling_factor: undefined,
      dim: 2048,
      n_layers: 16,
      head_dim: undefined,
      n_heads: 32,
      n_kv_heads: 8,
    });
  }, /does not fit the configuration|is missing/);
});

test('Mistral and Llama have different rotary bases where params.json has none', async () => {
  await makeCheckpoint(at('source'), SMALL.transformer ?? {});
  await convertCheckpoint(at('source'), at('meta'), { to: 'meta' });
  const params = readJson(at('meta/params.json'));
  const base = (change: object): number => {
    writeJson(at('meta/params.json'), { ...params, rope_theta: undefined, ...change });
    const { config, tensors } = openCheckpoint(at('meta'));
    tensors.close();
    return config.ropeTheta;
  };
  assert.is(base({}), 1_000_000, 'Mistral without a window');
  assert.is(base({ sliding_window: 64 }), 10_000, 'Mistral with a window');
  assert.is(base({ hidden_dim: undefined, multiple_of: 4 }), 10_000, 'Llama');
  assert.is(base({ rope_theta: 5000 }), 5000);
});

test('what is taken for a Llama 3.2 is remarked, and it was made for 131,072 tokens', async () => {
  const wide = { dim: 2048, layers: 16, heads: 32, kvHeads: 1, hiddenDim: 1, headDim: 2, vocabSize: 4 };
  await makeCheckpoint(at('source'), { ...wide, architecture: 'transformer', ropeScaling: LLAMA3 });
  await convertCheckpoint(at('source'), at('meta'), { to: 'meta' });
  const params = readJson(at('meta/params.json'));
  writeJson(at('meta/params.json'), { ...params, rope_scaling_factor: undefined });
  const { config, remarks, context, tensors } = openCheckpoint(at('meta'));
  tensors.close();
  assert.is(config.architecture === 'transformer' && config.ropeScaling?.factor, 32);
  assert.is(context, 131_072);
  assert.match(
    remarks?.join() ?? '',
    /without a factor: 32 is taken, as Llama 3\.2 1B has it; .*rope_scaling_factor/,
  );
  const converted = await convertCheckpoint(at('meta'), at('hf'), { to: 'huggingface' });
  assert.equal(converted.remarks, remarks);
  assert.is(readJson(at('hf/config.json')).max_position_embeddings, 131_072);
});

test('a configuration of a billion layers is refused before its names are made', async () => {
  const file = `${await makeCheckpoint(at('source'), SMALL.retention ?? {})}/config.json`;
  const config = readJson(file);
  writeJson(file, { ...config, model: { ...(config.model as object), layers: 1e9, selfLayers: 5e8 } });
  refuses(() => openCheckpoint(at('source')), /layers must be at most 10000, found 1000000000/);
});

test.run();
