import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../src/errors.js';
import {
  architectureName,
  ARCHITECTURES,
  costs,
  createConfig,
  parameterSpecs,
  presetArchitectures,
  presetConfig,
  presetNames,
  type ConfigInput,
} from '../../src/model/index.js';
import { transformerFrequencies, yocoFrequencies } from '../../src/model/frequencies.js';

const test = suite('model: configuration and presets');

const BASE = { dim: 32, layers: 4, hiddenDim: 48, heads: 4, vocabSize: 100 };

test('defaults follow from what is given', () => {
  assert.equal(createConfig(BASE), {
    ...BASE,
    architecture: 'yoco',
    kvHeads: 4,
    selfHeads: 4,
    selfDecoder: 'gated-retention',
    slidingWindow: null,
    selfLayers: 2,
    ropeTheta: 10000,
    normEps: 1e-5,
    crossPositions: 'rotary',
    tieEmbeddings: false,
  });
  assert.equal(createConfig({ ...BASE, slidingWindow: 8 }).slidingWindow, 8);
  assert.equal(createConfig({ ...BASE, architecture: 'transformer' }), {
    ...BASE,
    architecture: 'transformer',
    kvHeads: 4,
    headDim: 8,
    slidingWindow: null,
    ropeTheta: 10000,
    normEps: 1e-5,
    tieEmbeddings: false,
    ropeScaling: null,
  });
});

test('a configuration survives JSON', () => {
  for (const name of presetNames()) {
    for (const architecture of presetArchitectures(name)) {
      const config = presetConfig(name, architecture);
      assert.equal(createConfig(JSON.parse(JSON.stringify(config)) as Record<string, unknown>), config);
    }
  }
});

const REFUSED: [Record<string, unknown>, RegExp][] = [
  [{ dim: 0 }, /dim must be a positive integer, found 0/],
  [{ layers: undefined }, /layers must be a positive integer/],
  [{ heads: 3 }, /heads \(3\) must divide dim \(32\)/],
  [{ heads: 32 }, /heads of an even width/],
  [{ kvHeads: 3 }, /heads \(4\) must be a multiple of kvHeads \(3\)/],
  [{ selfHeads: 5 }, /selfHeads \(5\) must divide dim/],
  [{ layers: 5 }, /layers must be even \(found 5\)/],
  [{ selfLayers: 4 }, /selfLayers must be between 0 and 3/],
  [{ architecture: 'rnn' }, /architecture must be one of yoco, transformer, .*, found "rnn"/],
  [{ selfDecoder: 'mamba' }, /selfDecoder must be one of gated-retention, sliding-window/],
  [{ selfDecoder: 'gated-delta-net', convKernel: 1 }, /convKernel must be from 2 to 64, found 1/],
  [{ selfDecoder: 'gated-delta-net', deltaKeyDim: 0 }, /deltaKeyDim must be a positive integer/],
  [{ convKernel: 4 }, /unknown field convKernel/],
  [{ selfDecoder: 'sliding-window' }, /slidingWindow must be a number of positions/],
  [{ selfDecoder: 'gated-retention', slidingWindow: 4 }, /slidingWindow must be null/],
  [{ crossPositions: 'alibi' }, /crossPositions must be one of rotary, none/],
  [{ normEps: -1 }, /normEps must be a positive number/],
  [{ ropeTheta: '1e4' }, /ropeTheta must be a positive number, found "1e4"/],
  [{ headdim: 8 }, /unknown field headdim; the fields are architecture, dim/],
  [{ tieEmbeddings: 1 }, /tieEmbeddings must be true or false/],
  [{ selfLayers: -1 }, /selfLayers must be an integer from 0 on/],
  [{ architecture: 'cla', layers: 5 }, /layers must be a multiple of 2 for 'cla', found 5/],
  [{ architecture: 'cla3' }, /layers must be a multiple of 3/],
  [{ architecture: 'gretnet', selfLayers: 2 }, /unknown field selfLayers/],
  [{ architecture: 'custom' }, /layout must be a text/],
  [{ layout: '4*mamba' }, /layout '4\*mamba': expected one of gated-retention, .*, found 'mamba'/],
  [{ layout: '4*attention', layers: 3 }, /layers must be 4, as many as the layout has, found 3/],
  [{ layout: 'cla', architecture: 'yoco' }, /layout 'cla' contradicts the architecture/],
  [{ layout: '4*sliding-window' }, /slidingWindow must be a number of positions/],
  [{ layout: '4*attention', slidingWindow: 3 }, /slidingWindow must be null where no layer is/],
  [{ architecture: 'transformer', headDim: 5 }, /headDim must be even/],
  [{ architecture: 'transformer', tieEmbeddings: 1 }, /tieEmbeddings must be true or false/],
  [
    { architecture: 'transformer', ropeScaling: { type: 'yarn' } },
    /ropeScaling.type must be one of linear, llama3/,
  ],
  [
    { architecture: 'transformer', ropeScaling: { type: 'linear' } },
    /ropeScaling.factor must be a positive number/,
  ],
  [{ architecture: 'transformer', ropeScaling: 2 }, /ropeScaling must be an object, found 2/],
];

test('what cannot be meant is refused, with the field and what it may be', () => {
  for (const [change, message] of REFUSED) {
    try {
      createConfig({ ...BASE, ...change });
      assert.unreachable(`${JSON.stringify(change)} was accepted`);
    } catch (error) {
      assert.instance(error, UsageError, String(error));
      assert.match((error as Error).message, message);
    }
  }
});

test('presets: names, architectures, overrides', () => {
  assert.throws(
    () => presetConfig('huge', 'yoco'),
    /unknown preset 'huge': the presets are pico, nano, tiny/,
  );
  assert.throws(() => presetConfig('toString', 'yoco'), /unknown preset/);
  assert.throws(
    () => presetConfig('yoco-3b', 'transformer'),
    /has no architecture 'transformer': it is for yoco/,
  );
  assert.equal(
    presetArchitectures('tiny'),
    ARCHITECTURES.filter((name) => !/custom|cla3/.test(name)),
  );
  assert.equal(presetArchitectures('transformer-3b'), ['transformer', 'gqa', 'mqa', 'cla']);
  const windowed = presetConfig('tiny', 'yoco', { selfDecoder: 'sliding-window' });
  assert.is(windowed.slidingWindow, 128);
  const overrides: ConfigInput = { crossPositions: 'none', selfLayers: 6 };
  const config = presetConfig('tiny', 'yoco', overrides);
  assert.is(config.architecture === 'yoco' && config.crossPositions, 'none');
  const layout = '2*(sliding-window attention) memory cross';
  const written = presetConfig('tiny', 'custom', { layout });
  assert.equal(
    [written.layers, written.slidingWindow, architectureName(written)],
    [5, 128, '2*(sliding-window attention) memory cross'],
  );
  assert.equal(createConfig({ ...BASE, layout: 'cla' }), createConfig({ ...BASE, architecture: 'cla' }));
});

/** The other layouts have the widths of one of the two, and what parameters follow from that. */
const isOfPaper = (name: string): boolean => name === 'yoco' || name === 'transformer';

/** Millions of parameters that the names promise, embeddings counted once. */
const PROMISED: Record<string, number> = {
  nano: 1.7,
  tiny: 6.8,
  '160m': 160,
  '400m': 400,
  '830m': 830,
  '1.4b': 1400,
  '2.7b': 2700,
  '6.8b': 6800,
  '13b': 13000,
  '30b': 30000,
  '65b': 65000,
  'yoco-3b': 3000,
  'transformer-3b': 3000,
};

test('presets have the parameters that their names promise', () => {
  for (const [name, millions] of Object.entries(PROMISED)) {
    for (const architecture of presetArchitectures(name).filter(isOfPaper)) {
      const cost = costs(presetConfig(name, architecture));
      const counted = (cost.parameters() - cost.embeddingParameters / 2) / 1e6;
      assert.ok(Math.abs(counted / millions - 1) < 0.08, `${name} ${architecture}: ${counted} million`);
    }
  }
});

/** Attention heads of Table 8. */
const HEADS = { '160m': 12, '400m': 16, '830m': 12, '1.4b': 16, '2.7b': 20, '6.8b': 32, '13b': 40 };

test('presets of the scaling study have the heads of Table 8', () => {
  for (const [name, heads] of Object.entries(HEADS)) {
    for (const architecture of presetArchitectures(name)) {
      const config = presetConfig(name, architecture);
      const kvHeads = { gqa: heads / 4, mqa: 1 }[architecture as string] ?? heads;
      assert.equal([config.heads, config.kvHeads], [heads, kvHeads], `${name} ${architecture}`);
      if (config.architecture === 'yoco') assert.is(config.dim / config.selfHeads, 256, name);
    }
  }
});

test('a sliding window has the attention heads of the scaling study, not the wide ones of gated retention', () => {
  const headsOf = (
    name: string,
    ...[architecture, overrides]: [Parameters<typeof presetConfig>[1], object?]
  ): number | null =>
    (presetConfig(name, architecture, overrides) as { selfHeads?: number }).selfHeads ?? null;
  assert.is(headsOf('160m', 'yoco'), 3);
  assert.is(headsOf('160m', 'yoco', { selfDecoder: 'sliding-window' }), 12);
  assert.is(headsOf('160m', 'interleaved', { selfDecoder: 'sliding-window' }), 12);
  assert.is(headsOf('160m', 'sambay'), 12);
  assert.is(headsOf('160m', 'yoco', { selfDecoder: 'sliding-window', selfHeads: 6 }), 6);
  assert.is(headsOf('yoco-3b', 'yoco', { selfDecoder: 'sliding-window' }), 24);
  assert.is(headsOf('ladder-25m', 'yoco', { selfDecoder: 'sliding-window' }), 4, 'as in results/quality');
});

test('parameter names are unique and follow the official scheme', () => {
  for (const architecture of presetArchitectures('pico')) {
    const names = parameterSpecs(presetConfig('pico', architecture)).map(({ name }) => name);
    assert.is(new Set(names).size, names.length);
    assert.ok(names.every((name) => /\.(weight|A_log|dt_bias)$/.test(name)));
  }
});

test('rotary frequencies', () => {
  assert.equal([...yocoFrequencies(2, 1e4)], [1]);
  const yoco = yocoFrequencies(64, 1e4);
  assert.is(yoco[0], 1);
  assert.is(yoco[31], Math.fround(1e-4));
  assert.is(yocoFrequencies(64, 1e4), yoco, 'the same array, by which tables are cached');
  assert.is(transformerFrequencies(8, 1e4, null)[1], Math.fround(0.1));
  assert.is(transformerFrequencies(8, 1e4, { type: 'linear', factor: 4 })[0], 0.25);
});

test('llama3 scaling leaves short wavelengths, divides long ones and blends between', () => {
  const scaling = {
    type: 'llama3',
    factor: 8,
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalContext: 8192,
  } as const;
  const plain = transformerFrequencies(128, 500000, null);
  const scaled = transformerFrequencies(128, 500000, scaling);
  const ratios = [...scaled].map((frequency, i) => frequency / (plain[i] as number));
  const wavelengths = [...plain].map((frequency) => (2 * Math.PI) / frequency);
  for (const [i, ratio] of ratios.entries()) {
    const wavelength = wavelengths[i] as number;
    if (wavelength < 8192 / 4) assert.is(ratio, 1);
    else if (wavelength > 8192) assert.ok(Math.abs(ratio - 1 / 8) < 1e-6);
    else assert.ok(ratio > 1 / 8 && ratio < 1, `ratio ${ratio} at wavelength ${wavelength}`);
  }
  assert.ok(
    ratios.some((ratio) => ratio > 0.2 && ratio < 0.9),
    'some frequencies lie between',
  );
});

test.run();
