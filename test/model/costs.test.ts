/** The formulas against what is allocated and computed. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  costs,
  createConfig,
  createModel,
  layoutOf,
  presetConfig,
  type ConfigInput,
  type ModelConfig,
} from '../../src/model/index.js';
import { registerFusedKernel, type KernelName } from '../../src/ops/kernels.js';
import * as tf from '../../src/tf.js';
import { CUSTOM_LAYOUT, GATED_LAYOUT, SPACE } from './cases.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('model: costs');
test.before(usePlainBackend);

const SHAPE = { dim: 16, layers: 4, hiddenDim: 24, heads: 4, kvHeads: 2, vocabSize: 32 };

const CONFIGS: Record<string, ModelConfig> = Object.fromEntries(
  Object.entries({
    'gated retention': { ...SHAPE, selfHeads: 2, selfLayers: 3 },
    'sliding window': { ...SHAPE, selfHeads: 2, slidingWindow: 4 },
    transformer: { ...SHAPE, architecture: 'transformer' },
    'tied, wide heads': { ...SHAPE, architecture: 'transformer', headDim: 8, tieEmbeddings: true },
    'windowed transformer': { ...SHAPE, architecture: 'transformer', slidingWindow: 3 },
    'yoco, retention, tied': { ...SHAPE, selfHeads: 2, selfDecoder: 'retention', tieEmbeddings: true },
    'yoco, 0:1': { ...SHAPE, layers: 2, selfLayers: 0 },
    'unstacked yoco': { ...SHAPE, architecture: 'unstacked-yoco', selfHeads: 2 },
    interleaved: { ...SHAPE, architecture: 'interleaved', selfHeads: 2 },
    gretnet: { ...SHAPE, architecture: 'gretnet', layers: 2 },
    retnet: { ...SHAPE, architecture: 'retnet', layers: 2 },
    'gated deltanet': {
      ...SHAPE,
      architecture: 'gated-deltanet',
      layers: 2,
      selfHeads: 2,
      deltaKeyDim: 6,
      deltaValueDim: 10,
    },
    cla: { ...SHAPE, architecture: 'cla' },
    cla3: { ...SHAPE, architecture: 'cla3', layers: 3, tieEmbeddings: true },
    gqa: { ...SHAPE, architecture: 'gqa', kvHeads: undefined },
    mqa: { ...SHAPE, architecture: 'mqa', kvHeads: undefined },
    'gated memory': { ...SHAPE, layout: GATED_LAYOUT, layers: undefined, slidingWindow: 3 },
    'yoco, mamba-2': { ...SHAPE, selfDecoder: 'mamba-2', ...SPACE },
    sambay: { ...SHAPE, architecture: 'sambay', slidingWindow: 3, ...SPACE },
    custom: { ...SHAPE, layout: CUSTOM_LAYOUT, layers: undefined, slidingWindow: 3 },
  } satisfies Record<string, ConfigInput>).map(([name, input]) => [name, createConfig(input)]),
);

const someTokens = (count: number): tf.Tensor2D => tf.zeros([1, count], 'int32');

for (const [name, config] of Object.entries(CONFIGS)) {
  test(`${name}: parameters and cache bytes are what is allocated`, () => {
    const model = createModel(config, { weights: 'zeros' });
    const sizes = [...model.parameters.values()].map(({ size }) => size);
    const cost = costs(config);
    assert.is(
      cost.parameters(),
      sizes.reduce((sum, size) => sum + size, 0),
    );
    assert.is(cost.weightBytes(4), 4 * cost.parameters());
    const embeddings = [...model.parameters].filter(([name]) =>
      /^(embed_tokens|output|tok_embeddings|output_projection)\./.test(name),
    );
    assert.is(
      cost.embeddingParameters,
      embeddings.reduce((sum, [, { size }]) => sum + size, 0),
    );

    const cache = model.createCache({ maxTokens: 64 });
    tf.tidy(() => {
      model.extend(someTokens(40), cache, { logits: 'none' });
    });
    // One page of 64 positions.
    assert.equal(cache.bytes(), { keyValue: 64 * cost.keyValueBytesPerToken(4), state: cost.stateBytes(4) });
    cache.dispose();
    model.dispose();
  });
}

test('recurrent states are float32 whatever the storage, windows are not', () => {
  const bytes = (name: string, elementBytes: number): number =>
    costs(CONFIGS[name] as ModelConfig).stateBytes(elementBytes);
  assert.is(bytes('gated retention', 2), bytes('gated retention', 4));
  assert.is(bytes('sliding window', 2), bytes('sliding window', 4) / 2);
  const { state } = costs(CONFIGS['gated retention'] as ModelConfig).inferenceMemory({
    context: 8,
    bytesPerElement: 2,
    batch: 3,
  });
  assert.is(state, 3 * bytes('gated retention', 4));
});

/** Runs `body` with one fused kernel of the plain backend replaced. */
async function withKernel(
  name: KernelName,
  kernel: (inputs: Record<string, tf.Tensor>) => tf.TensorInfo | tf.TensorInfo[],
  body: () => Promise<void>,
): Promise<void> {
  registerFusedKernel('cpu', name, (inputs) => kernel(inputs as Record<string, tf.Tensor>));
  try {
    await body();
  } finally {
    tf.unregisterKernel(name, 'cpu');
  }
}

/** Operations of all matrix products that `body` runs. */
async function countedFlops(body: () => void): Promise<number> {
  let flops = 0;
  const { kernels } = await tf.profile(() => {
    tf.tidy(body);
    return tf.scalar(0);
  });
  for (const { name, inputShapes, outputShapes } of kernels) {
    if (name !== 'BatchMatMul') continue;
    const [a] = inputShapes;
    const [out] = outputShapes;
    const product = (shape: number[] | undefined): number => (shape ?? []).reduce((all, n) => all * n, 1);
    const rows = product(out?.slice(0, -1));
    flops += 2 * product(out) * (product(a) / rows);
  }
  return flops;
}

const copy = ({ x }: Record<string, tf.Tensor>): tf.Tensor => tf.mul(x as tf.Tensor, 1);

/** A step of the delta rule writes kᵀ v without a matrix product, and its short convolutions have none. */
function unseenByDelta(config: ModelConfig): number {
  const layers = layoutOf(config).parts.filter(({ word }) => word === 'gated-delta-net').length;
  if (layers === 0 || !('convKernel' in config)) return 0;
  const { selfHeads = 0, deltaKeyDim: key = 0, deltaValueDim: value = 0, convKernel = 0 } = config;
  return layers * selfHeads * (2 * key * value + 2 * convKernel * (2 * key + value));
}

for (const [name, config] of Object.entries(CONFIGS)) {
  test(`${name}: operations of prefill and decode are those of the matrix products run`, async () => {
    // One token at a time every score that is computed is used; the composed rotation is a product and not counted.
    await withKernel('Rotary', copy, async () => {
      const model = createModel(config, { weights: 'zeros' });
      const cost = costs(config);
      const tokens = 11;
      // A retention step adds k v to the state, and fades it, without a matrix product: half of its operations.
      const retaining = layoutOf(config).parts.filter(({ word }) => word.endsWith('retention')).length;
      const { dim, heads } = config;
      const selfHeads = 'selfHeads' in config ? (config.selfHeads ?? heads) : heads;
      const spaces = layoutOf(config).parts.filter(({ word }) => word === 'mamba-2').length;
      const unseen =
        retaining * 2 * dim * (dim / selfHeads) +
        spaces * 2 * 2 * dim * SPACE.stateDim +
        unseenByDelta(config);
      for (const earlyExit of [true, false]) {
        const cache = model.createCache({ maxTokens: 64 });
        const counted = await countedFlops(() => {
          model.prefill(someTokens(tokens), cache, { chunkSize: 1, earlyExit });
        });
        assert.is(
          cost.prefillFlops(tokens, { earlyExit }),
          counted + tokens * unseen,
          `prefill, early exit ${earlyExit}`,
        );
        const decoded = await countedFlops(() => {
          model.decode(tf.tensor1d([3], 'int32'), cache);
        });
        assert.is(cost.decodeFlops(tokens + 1), decoded + unseen, 'decode');
        cache.dispose();
      }
      model.dispose();
    });
  });
}

test('training is three forward passes over all positions', () => {
  for (const config of Object.values(CONFIGS)) {
    const cost = costs(config);
    const head = 2 * config.dim * config.vocabSize;
    const forward = cost.prefillFlops(8, { earlyExit: false }) + 7 * head;
    assert.is(cost.trainFlopsPerToken(8), (3 * forward) / 8);
  }
});

/** Fused kernels that only allocate their outputs, so that a profile shows the model's own activations. */
const ALLOCATING: Partial<Record<KernelName, (inputs: Record<string, tf.Tensor>) => tf.Tensor[]>> = {
  RmsNorm: ({ x }) => [fresh(x?.shape)],
  Rotary: ({ x }) => [fresh(x?.shape)],
  SwiGlu: ({ a }) => [fresh(a?.shape)],
  LogDecay: ({ x }) => [fresh(x?.shape)],
  Linear: ({ x, weight }) => [fresh([...(x?.shape ?? []).slice(0, -1), weight?.shape[0] ?? 0])],
  LinearGroup: ({ x, ...weights }) =>
    Object.values(weights).map((weight) => fresh([...(x?.shape ?? []).slice(0, -1), weight.shape[0]])),
  Embedding: ({ weight, ids }) => [fresh([...(ids?.shape ?? []), weight?.shape[1] ?? 0])],
  CausalAttention: ({ q }) => [fresh(q?.shape), tf.zeros([1])],
  PagedAttention: ({ q }) => [fresh(q?.shape)],
  PageWrite: () => [],
  GatedRetention: ({ q, v }) => [
    fresh(v?.shape),
    fresh([1, q?.shape[2] ?? 0, q?.shape[3] ?? 0, v?.shape[3] ?? 0]),
  ],
};

const fresh = (shape: number[] = []): tf.Tensor => tf.zeros(shape);

test('peak activations of a chunk are those of the feed-forward network', async () => {
  for (const [name, kernel] of Object.entries(ALLOCATING)) {
    registerFusedKernel('cpu', name as KernelName, (inputs) => kernel(inputs as Record<string, tf.Tensor>));
  }
  try {
    for (const selfDecoder of ['gated-retention', 'sliding-window', null] as const) {
      const config =
        selfDecoder === null
          ? presetConfig('pico', 'transformer')
          : presetConfig('pico', 'yoco', { selfDecoder });
      const model = createModel(config, { weights: 'zeros' });
      const chunk = 512;
      const cache = model.createCache({ maxTokens: 2 * chunk });
      const tokens = someTokens(chunk);
      tf.tidy(() => {
        model.extend(tokens, cache, { logits: 'none' });
      });
      const before = tf.memory().numBytes;
      const { peakBytes } = await tf.profile(() => {
        model.extend(tokens, cache, { logits: 'none' });
        return tf.scalar(0);
      });
      const predicted = costs(config).peakActivationBytes(chunk, 4);
      const ratio = (peakBytes - before) / predicted;
      assert.ok(
        ratio > 0.95 && ratio < 1.05,
        `${config.architecture} ${String(selfDecoder)}: ${ratio} of the prediction`,
      );
      cache.dispose();
      tokens.dispose();
      model.dispose();
    }
  } finally {
    for (const name of Object.keys(ALLOCATING)) tf.unregisterKernel(name, 'cpu');
  }
});

test('the paper, Fig. 8: keys and values of a token, Transformer over YOCO', () => {
  const ratios = { '1.4b': 24, '6.8b': 32, '13b': 40, '30b': 64, '65b': 80 };
  const bytes = (name: string, architecture: 'yoco' | 'transformer'): number =>
    costs(presetConfig(name, architecture)).keyValueBytesPerToken(2);
  for (const [name, ratio] of Object.entries(ratios)) {
    assert.is(bytes(name, 'transformer') / bytes(name, 'yoco'), ratio, name);
  }
  assert.is(bytes('65b', 'yoco'), 8 * 1024);
  assert.is(bytes('65b', 'transformer'), 640 * 1024);
});

test('the paper: 12.4 GB and 9.4 times less memory at 1M tokens, 3B, bfloat16, chunks of 32,768', () => {
  const question = { context: 2 ** 20, bytesPerElement: 2, concatenatedCache: true };
  const yoco = costs(presetConfig('yoco-3b', 'yoco')).inferenceMemory(question);
  const transformer = costs(presetConfig('transformer-3b', 'transformer')).inferenceMemory(question);
  const gibibytes = yoco.total / 2 ** 30;
  assert.ok(Math.abs(gibibytes - 12.4) < 0.2, `YOCO: ${gibibytes} GiB`);
  const ratio = transformer.total / yoco.total;
  assert.ok(Math.abs(ratio - 9.4) < 0.1, `ratio ${ratio}`);
});

test('the memory ratio of the paper follows when its Transformer holds the logits of a chunk', () => {
  const ratio = (context: number, chunkLogits: boolean): number => {
    const question = { context, chunk: 32768, bytesPerElement: 2, chunkLogits };
    const yoco = costs(presetConfig('yoco-3b', 'yoco')).inferenceMemory(question);
    return costs(presetConfig('transformer-3b', 'transformer')).inferenceMemory(question).total / yoco.total;
  };
  const paper = [1.95, 2.32, 3.01, 4.16, 6.39, 9.38];
  paper.forEach((figure, i) => {
    const context = 32768 * 2 ** i;
    assert.ok(Math.abs(ratio(context, true) / figure - 1) < 0.05, `${context}: ${ratio(context, true)}`);
  });
  assert.ok(ratio(32768, false) < 1.4);
});

test('keys and values of 8 bits: 86 GB for 512K tokens of 65B with 8 heads, weights as they are', () => {
  const config = createConfig({ ...presetConfig('65b', 'transformer'), kvHeads: 8 });
  const question = { context: 524288, bytesPerElement: 2 };
  const memory = costs(config).inferenceMemory({ ...question, cacheType: 'float8' });
  assert.is(Math.round(memory.keyValue / 1e9), 86);
  const half = costs(config).inferenceMemory(question).keyValue / 2;
  assert.ok(
    memory.keyValue > half && memory.keyValue < 1.002 * half,
    'scales and the newest positions take little',
  );
  assert.is(memory.weights, costs(config).weightBytes(2));
});

test('weights in float8 take a byte, and four for each row; embeddings, heads, norms and what does not suit stay', () => {
  const shape = { dim: 32, layers: 2, hiddenDim: 48, heads: 2, kvHeads: 1, vocabSize: 100 };
  const config = createConfig({ ...shape, architecture: 'yoco', selfHeads: 2 });
  const rows = (count: number, width: number): number => count * (width + 4);
  const feedForward = 2 * rows(48, 32) + rows(32, 48);
  // Gated retention with a decay of two rows, which do not suit; keys and values of one head of 16; cross-attention.
  const kept = 2 * feedForward + 5 * rows(32, 32) + 2 * rows(16, 32) + 2 * rows(32, 32);
  const rest = 2 * 100 * 32 + 2 * 32 + 6 * 32;
  assert.is(costs(config).weightBytes(2, 'float8'), kept + 2 * rest);
  assert.is(costs(config).weightBytes(2), 2 * costs(config).parameters());
  const question = { context: 64, bytesPerElement: 2 };
  const [usual, small] = [null, 'float8' as const].map((weightType) =>
    costs(config).inferenceMemory({ ...question, weightType }),
  );
  assert.is(small?.weights, kept + 2 * rest);
  assert.equal({ ...small, weights: 0, total: 0 }, { ...usual, weights: 0, total: 0 });
  assert.is((usual?.total ?? 0) - (small?.total ?? 0), (usual?.weights ?? 0) - (small?.weights ?? 0));
});

test.run();
