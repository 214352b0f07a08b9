import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { saveModel } from '../../src/checkpoint/load.js';
import { chooseModels } from '../../src/sweep/models.js';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import {
  describeTokens,
  loadCandidates,
  weightsCell,
  type Candidate,
} from '../../src/evaluation/candidates.js';
import { createConfig, createModel, type LanguageModel } from '../../src/model/index.js';
import { byteLevel, writeFiles } from '../data/tokenizers/files.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('evaluation/candidates');

let directory = '';
test.before(async () => {
  await usePlainBackend();
  directory = mkdtempSync(join(tmpdir(), 'yoco-candidates-'));
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

const config = createConfig({ dim: 8, layers: 2, hiddenDim: 8, heads: 2, vocabSize: 264 });

async function failure(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('it was accepted');
}

test('the size of the vocabulary tells the tokenizer, --tokenizer overrides it, others are asked for', async () => {
  const load = (vocabSize: number, tokenizer?: string) =>
    loadCandidates([{ name: 'm', config: { ...config, vocabSize } }], { seed: 1, tokenizer });
  assert.is((await load(264))[0]?.tokenizer.name, 'bytes');
  assert.is((await load(100288))[0]?.tokenizer.name, 'cl100k_base');
  assert.is((await load(300, 'bytes'))[0]?.tokenizer.name, 'bytes');
  assert.match(
    await failure(load(5000)),
    /'m' does not say which tokenizer its 5000 tokens are of: give --tokenizer/,
  );
  assert.match(await failure(load(5000, 'bytes')), /264 tokens but the model's vocabulary has 5000/);
});

const firstParameter = ({ parameters }: LanguageModel): number[] | undefined =>
  Array.from(parameters.values(), (variable) => [...variable.dataSync()])[0];

test('random weights are drawn from the seed and called random', async () => {
  const [candidate] = await loadCandidates(chooseModels({ presets: ['pico'] }), { seed: 5 });
  assert.ok(candidate);
  assert.equal(weightsCell(candidate), { weights: 'random' });
  const first = firstParameter(await candidate.open());
  assert.equal(firstParameter(await candidate.open()), first);
  assert.ok(first && first.length > 0);
  const other = (await loadCandidates(chooseModels({ presets: ['pico'] }), { seed: 6 }))[0];
  assert.not.equal(other?.settings, candidate.settings);
});

test('checkpoints of one base name are told apart; their weights are part of what cells are keyed by', async () => {
  const meta = { tokenizer: 'bytes', context: 128, provenance: null };
  for (const [run, seed] of [
    ['a', 1],
    ['b', 2],
  ] as const) {
    await saveModel(join(directory, run, 'final'), createModel(config, { seed }), meta);
  }
  const choices = chooseModels({ checkpoints: [join(directory, 'a/final'), join(directory, 'b/final')] });
  const candidates = await loadCandidates(choices, { seed: 1 });
  const names = candidates.map(({ key }) => key.model);
  assert.match(names[0] ?? '', /a\/final$/);
  assert.match(names[1] ?? '', /b\/final$/);
  assert.not.equal(candidates[0]?.settings, candidates[1]?.settings);
  assert.is(candidates[0]?.trainedContext, 128);
  assert.is(new Set(choices.map(({ name }) => name)).size, 2, 'in every sweep, not only in evaluations');
  const alone = chooseModels({ checkpoints: [join(directory, 'a/final')] });
  const [single] = await loadCandidates(alone, { seed: 1 });
  assert.is(single?.key.model, 'final');
});

test('tokens that other files name are part of what cells are keyed by; --verbose says where from', async () => {
  const load = async (begin: string): Promise<Candidate[]> => {
    const spec = writeFiles(join(directory, 'tokenizer'), byteLevel(), {
      'tokenizer_config.json': {
        tokenizer_class: 'LlamaTokenizerFast',
        bos_token: begin,
        eos_token: '<|endoftext|>',
      },
    });
    const { vocabSize } = await loadTokenizer(spec);
    return loadCandidates([{ name: 'm', config: { ...config, vocabSize } }], { seed: 1, tokenizer: spec });
  };
  const candidates = await load('<|endoftext|>');
  const lines = describeTokens(candidates);
  assert.match(lines[0] ?? '', /^tokenizer: .*tokenizer/);
  assert.match(lines[1] ?? '', /^begin of text: \d+ \(tokenizer_config\.json: bos_token, add_bos_token/);
  assert.not.equal((await load('a'))[0]?.settings, candidates[0]?.settings);
  assert.equal((await load('<|endoftext|>'))[0]?.settings, candidates[0]?.settings);
});

test.run();
