/** Layouts: their grammar, where tokens leave, and that each can be saved, loaded and initialised. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel, saveModel } from '../../src/checkpoint/load.js';
import { officialFormat } from '../../src/checkpoint/formats/official.js';
import {
  architectureName,
  createConfig,
  createModel,
  INITIAL_VALUES,
  layoutOf,
  parameterSpecs,
  type ConfigInput,
  type InitialValues,
} from '../../src/model/index.js';
import { formatLayout, parseLayout } from '../../src/model/layout-grammar.js';
import { type LayoutWord, resolveLayout } from '../../src/model/layouts.js';
import { MIXER_NAMES } from '../../src/model/mixers/list.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { CASES, ids, randomTokens, SHAPE, testModel } from './cases.js';

const test = suite('model: layouts');
test.before(usePlainBackend);

test('counts and brackets repeat words', () => {
  assert.equal(parseLayout(' 2*(retention 2*attention)  memory cross '), [
    ...['retention', 'attention', 'attention', 'retention', 'attention', 'attention'],
    ...['memory', 'cross'],
  ]);
  assert.is(
    formatLayout(parseLayout('attention cross attention cross memory cross cross')),
    '2*(attention cross) memory 2*cross',
  );
});

test('what a layout is formatted as is parsed back', () => {
  const words = fc.array(fc.constantFrom<LayoutWord>(...MIXER_NAMES, 'memory', 'embeddings'), {
    minLength: 1,
    maxLength: 12,
  });
  fc.assert(
    fc.property(words, (list) => {
      assert.equal(parseLayout(formatLayout(list)), list);
    }),
    { numRuns: 200, seed: 1 },
  );
});

const WRONG: [string, RegExp][] = [
  ['', /expected one of gated-retention, .*, found its end/],
  ['2*', /expected a word or a bracket, found its end/],
  ['0*cross', /expected a count from 1 to 4096, found '0\*'/],
  ['2*(cross', /expected '\)', found its end/],
  ['cross)', /expected a word, found '\)'/],
  ['4096*(4096*(attention))', /more than 4096 parts/],
  ['mamba', /found 'mamba'/],
];

test('a slip in a layout is refused with its place', () => {
  for (const [text, message] of WRONG) assert.throws(() => parseLayout(text), message, text);
});

test('words that cannot stand where they stand are refused', () => {
  const resolve =
    (text: string): (() => unknown) =>
    () =>
      resolveLayout(parseLayout(text));
  assert.throws(
    resolve('retention cross'),
    /part 2 is 'cross', but there is no 'memory' or 'attention' before it/,
  );
  assert.throws(resolve('retention memory memory cross'), /no 'cross' reads the 'memory' of part 2/);
  assert.throws(resolve('embeddings retention'), /'embeddings' must stand between other parts/);
});

/** Layers of four (three) that a prompt token needs. */
const EXITS: [ConfigInput, number][] = [
  [{ architecture: 'transformer' }, 4],
  [{ architecture: 'transformer', slidingWindow: 2 }, 4],
  [{ architecture: 'yoco' }, 2],
  [{ architecture: 'yoco', selfLayers: 3 }, 3],
  [{ architecture: 'yoco', selfLayers: 0 }, 0],
  [{ architecture: 'unstacked-yoco' }, 2],
  [{ architecture: 'interleaved' }, 4],
  [{ architecture: 'gretnet' }, 4],
  [{ architecture: 'retnet' }, 4],
  [{ architecture: 'gated-deltanet' }, 4],
  [{ architecture: 'cla' }, 3],
  [{ architecture: 'cla3', layers: 3 }, 1],
];

test('a prompt token needs the layers up to the last one that remembers anything', () => {
  for (const [input, layers] of EXITS) {
    const config = createConfig({ ...SHAPE, ...input });
    assert.is(layoutOf(config).exitLayers, layers, JSON.stringify(input));
  }
});

for (const [name, input] of Object.entries(CASES)) {
  test(`${name}: saved and loaded it is the same model`, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'layout-'));
    try {
      const model = testModel(input);
      await saveModel(join(directory, 'm'), model, { tokenizer: null, context: null, provenance: null });
      const loaded = loadModel(join(directory, 'm'));
      assert.equal(loaded.config, model.config);
      tf.tidy(() => {
        const tokens = ids(randomTokens(1, 6));
        assert.equal(loaded.model.forward(tokens).dataSync(), model.forward(tokens).dataSync());
      });
      model.dispose();
      loaded.model.dispose();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

test('what the official layout of files cannot express is refused', async () => {
  const tensors = {} as never;
  const write = (input: ConfigInput): Promise<void> => {
    const config = createConfig({ ...SHAPE, ...input });
    const checkpoint = { config, tokenizer: null, context: null, provenance: null, tensors };
    return officialFormat.write('nowhere', checkpoint, {});
  };
  const refused = async (input: ConfigInput, message: RegExp): Promise<void> => {
    const error = await write(input).then(() => null, String);
    assert.match(error ?? 'written', message);
  };
  await refused({ architecture: 'cla' }, /cannot express the layout 'cla'/);
  await refused({ selfDecoder: 'retention' }, /cannot express selfDecoder 'retention'/);
  await refused({ layout: '3*attention', layers: undefined }, /the layout '3\*attention'/);
});

test('a shared table of embeddings is one parameter less', () => {
  for (const architecture of ['yoco', 'transformer', 'cla'] as const) {
    const names = (tieEmbeddings: boolean): string[] =>
      parameterSpecs(createConfig({ ...SHAPE, architecture, tieEmbeddings })).map(({ name }) => name);
    const head = architecture === 'yoco' ? 'output_projection.weight' : 'output.weight';
    assert.equal(
      names(true),
      names(false).filter((name) => name !== head),
    );
  }
});

test('layouts without a name are called by their parts', () => {
  const config = createConfig({ ...SHAPE, layout: 'retention retention memory cross', layers: undefined });
  assert.is(architectureName(config), '2*retention memory cross');
  assert.is(config.layers, 3);
});

/** Deviation of a parameter's values. */
function deviation(input: ConfigInput, initialValues: InitialValues, name: string): number {
  const model = createModel(createConfig(input), { seed: 1, initialValues });
  const values = Float32Array.from((model.parameters.get(`${name}.weight`) as tf.Tensor).dataSync());
  model.dispose();
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

test('recipes of initial values', () => {
  const size = { ...SHAPE, dim: 64, hiddenDim: 96, vocabSize: 300 };
  const near = (input: ConfigInput, recipe: InitialValues, name: string, expected: number): void => {
    const found = deviation({ ...size, ...input }, recipe, name);
    assert.ok(Math.abs(found / expected - 1) < 0.06, `${recipe} ${name}: ${found} against ${expected}`);
  };
  assert.equal(Object.keys(INITIAL_VALUES), ['official', 'unit-embeddings', 'scaled-normal']);
  const transformer = { architecture: 'transformer' } as const;
  near(transformer, 'official', 'tok_embeddings', 1 / 8);
  near(transformer, 'unit-embeddings', 'tok_embeddings', 1);
  near({}, 'unit-embeddings', 'embed_tokens', 1 / 8);
  near({ ...transformer, tieEmbeddings: true }, 'unit-embeddings', 'tok_embeddings', 1 / 8);
  near(transformer, 'scaled-normal', 'layers.0.attention.wq', 0.02);
  near(transformer, 'scaled-normal', 'layers.0.attention.wo', 0.02 / Math.sqrt(8));
  near(transformer, 'scaled-normal', 'layers.0.feed_forward.w2', 0.02 / Math.sqrt(8));
  near(transformer, 'scaled-normal', 'output', 1 / 8);
});

test.run();
