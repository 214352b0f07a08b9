/** What is measured: every section returns rows of ratios taken within its own run. */
import { startCpu } from '../src/engines/cpu/index.js';
import { OnnxRuntime } from '../src/engines/cpu/runtime.js';
import { createModel, defaultChunkSize, type LanguageModel, type ModelCache } from '../src/model/index.js';
import * as tf from '../src/tf.js';
import { directProduct, engineProduct, PRODUCT_OPERATIONS, readMemory, useWasm } from './baseline.js';
import { alternate, gigaflops, type Row } from './measure.js';
import { trainer } from './training-step.js';
import {
  decodeBytes,
  filledCache,
  ids,
  pagesOf,
  prefillOnce,
  prefillOperations,
  tiny,
  trainingOperations,
  type Variant,
} from './workloads.js';

const GFLOPS = 'GFLOP/s';
const DIRECT = 'ONNX Runtime 1024³';

export interface BenchOptions {
  readonly threads: number;
  readonly repetitions: number;
}

type Section = (options: BenchOptions) => Promise<Row[]>;

function runtimeOf({ threads }: BenchOptions): OnnxRuntime {
  return OnnxRuntime.load(threads);
}

const matmul: Section = async (options) => {
  await startCpu(options);
  const product = engineProduct();
  const times = alternate({ direct: directProduct(runtimeOf(options)), engine: product.run }, 15);
  const what = 'matMul 1024³';
  const rate = gigaflops(product.operations, times.engine.median);
  const rows: Row[] = [];
  const compare = (against: string, reference: number, target: number | null) =>
    rows.push({ what, rate, unit: GFLOPS, against, reference, target });
  compare(DIRECT, gigaflops(PRODUCT_OPERATIONS, times.direct.median), 0.8);
  const measured = (side: number): number => {
    const { run, operations } = engineProduct(side, 1);
    return gigaflops(operations, alternate({ run }, 3).run.median);
  };
  await tf.setBackend('cpu');
  compare('tfjs cpu 256³', measured(256), null);
  if (await useWasm()) compare('tfjs wasm', measured(1024), null);
  return rows;
};

async function prefillRow(
  { name, config }: Variant,
  tokens: number,
  target: number,
  options: BenchOptions,
): Promise<Row> {
  await startCpu(options);
  const model = createModel(config, { seed: 1 });
  const prefill = () => {
    prefillOnce(model, tokens);
  };
  const product = directProduct(runtimeOf(options));
  const times = alternate({ prefill, product }, options.repetitions);
  model.dispose();
  const what = `prefill ${tokens}, ${name}, chunks of ${defaultChunkSize(config)}`;
  return {
    what: `${what}: ${Math.round((tokens / times.prefill.median) * 1000)} tokens/s`,
    rate: gigaflops(prefillOperations(config, tokens), times.prefill.median),
    unit: GFLOPS,
    against: DIRECT,
    reference: gigaflops(PRODUCT_OPERATIONS, times.product.median),
    target,
  };
}

const prefill: Section = async (options) => [
  await prefillRow(tiny('yoco'), 8192, 0.5, options),
  await prefillRow(tiny('yoco', true), 8192, 0.5, options),
];

const transformer: Section = async (options) => [
  await prefillRow(tiny('transformer'), 32768, 0.5, {
    ...options,
    repetitions: Math.min(3, options.repetitions),
  }),
];

/** Milliseconds per token of a training step on tfjs' plain backend or its WASM backend, on fewer tokens. */
function smallStep(variant: Variant, length: number): number {
  const { step, dispose } = trainer(variant.config, 1, length);
  const { median } = alternate({ step }, 1).step;
  dispose();
  return median / length;
}

const training: Section = async (options) => {
  const rows: Row[] = [];
  const [batch, length] = [8, 1024];
  const tokens = batch * length;
  for (const variant of [tiny('yoco'), tiny('yoco', true)]) {
    await startCpu(options);
    const { step, dispose } = trainer(variant.config, batch, length);
    const times = alternate({ step, product: directProduct(runtimeOf(options)) }, options.repetitions);
    dispose();
    const what = `training step ${batch} x ${length}, ${variant.name}`;
    const perSecond = (tokens / times.step.median) * 1000;
    rows.push({
      what: `${what}: ${Math.round(perSecond)} tokens/s`,
      rate: gigaflops(trainingOperations(variant.config, tokens), times.step.median),
      unit: GFLOPS,
      against: DIRECT,
      reference: gigaflops(PRODUCT_OPERATIONS, times.product.median),
      target: 0.35,
    });
    const compare = (against: string, milliseconds: number, target: number) =>
      rows.push({ what, rate: perSecond, unit: 'tokens/s', against, reference: 1000 / milliseconds, target });
    await tf.setBackend('cpu');
    compare('tfjs cpu, 1 x 128', smallStep(variant, 128), 10);
    if (await useWasm()) compare('tfjs wasm, 1 x 512', smallStep(variant, 512), 3);
  }
  return rows;
};

/**
 * Decoding with `cache`, against reading the very same keys and values as fast as it goes: what memory gives depends on
 * where it lies (on one virtual machine 33 or 60 GB/s).
 */
function decodeRow(
  {
    model,
    cache,
    what,
  }: { readonly model: LanguageModel; readonly cache: ModelCache; readonly what: string },
  options: BenchOptions,
): Row {
  const next = tf.tensor1d([65], 'int32');
  const { length } = cache;
  const decode = () => {
    const logits = model.decode(next, cache);
    logits.dataSync();
    logits.dispose();
  };
  // A generation's first tokens also pay for compiling what they run through.
  for (let i = 0; i < 20; i++) decode();
  const pages = pagesOf(cache);
  const read = readMemory(runtimeOf(options), pages);
  const readBytes = pages.reduce((sum, page) => sum + page.byteLength, 0);
  const times = alternate({ decode, read }, 9);
  next.dispose();
  return {
    what: `${what}: ${(1000 / times.decode.median).toFixed(1)} tokens/s`,
    rate: decodeBytes(model.config, length) / times.decode.median / 1e6,
    unit: 'GB/s',
    against: 'reading the same memory',
    reference: readBytes / times.read.median / 1e6,
    target: length < 2 ** 18 ? null : 0.6,
  };
}

/** Decoding after contexts that were not computed but filled with random keys and values. */
const decode: Section = async (options) => {
  await startCpu(options);
  const model = createModel(tiny('yoco').config, { seed: 1 });
  return [2 ** 16, 2 ** 18].map((tokens) => {
    const cache = filledCache(model, tokens);
    const row = decodeRow({ model, cache, what: `decode at ${tokens}` }, options);
    cache.dispose();
    return row;
  });
};

/** A million tokens: time per token, memory, and decoding afterwards. Takes minutes. */
const million: Section = async (options) => {
  const engine = await startCpu(options);
  const model = createModel(tiny('yoco').config, { seed: 1 });
  const shortTokens = 2 ** 16;
  const shortPerToken = (): number => {
    const start = performance.now();
    prefillOnce(model, shortTokens);
    return (performance.now() - start) / shortTokens;
  };
  prefillOnce(model, 8192);
  const before = shortPerToken();
  const tokens = 2 ** 20;
  const cache = model.createCache({ maxTokens: tokens + 64 });
  const prompt = tf.tensor2d(ids(tokens), [1, tokens], 'int32');
  const start = performance.now();
  model.prefill(prompt, cache).dispose();
  const long = (performance.now() - start) / tokens;
  prompt.dispose();
  const { keyValue, state } = cache.bytes();
  const resident = process.resourceUsage().maxRSS * 1024;
  const decoding = decodeRow({ model, cache, what: 'decode at 1M' }, options);
  // Before and after: the machine is seldom as fast for minutes as it is for seconds.
  const short = (before + shortPerToken()) / 2;
  process.stderr.write(`${engine.description}: ${Math.round(resident / 1e6)} MB resident\n`);
  return [
    {
      what: 'prefill 1M, yoco',
      rate: 1000 / long,
      unit: 'tokens/s',
      against: 'prefill 64k',
      reference: 1000 / short,
      target: 1 / 1.15,
    },
    {
      what: 'memory allowed at 1M (caches + 1.5 GB)',
      rate: (keyValue + state) / 1e9 + 1.5,
      unit: 'GB',
      against: 'peak resident',
      reference: resident / 1e9,
      target: 1,
    },
    decoding,
  ];
};

export const SECTIONS: Readonly<Record<string, Section>> = {
  matmul,
  prefill,
  training,
  transformer,
  decode,
  million,
};
