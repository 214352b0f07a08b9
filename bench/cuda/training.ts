/**
 * Training steps in bfloat16, `node --import tsx bench/cuda/training.ts DIRECTORY [160m,830m,1.4b]`: tokens/s, and the share of this
 * card's rate in a large product directly after them.
 */
import { registerRecorder, stepRecorder } from '../../src/ops/index.js';
import { costs, presetConfig } from '../../src/model/index.js';
import { ProductRate } from '../../src/sweep/product-rate.js';
import { median } from '../../src/sweep/statistics.js';
import { timeRuns } from '../../src/profiling/timing.js';
import * as tf from '../../src/tf.js';
import { trainer } from '../training-step.js';
import { cudaBackend, kernelTimes, printKernelTimes } from './kernel-times.js';
import { openSession } from './session.js';
import {
  LAST_LOSS,
  MODEL,
  PEAK_BYTES,
  SECONDS,
  TOKENS_PER_SECOND,
  TOKENS_PER_STEP,
} from './training-columns.js';

const [TIME, STEPS, WARM_UP] = [2048, 6, 3];
/** Sequences of a step: those that fit beside weights and moments on a card of 80 GB. */
const BATCHES: Readonly<Record<string, number>> = { '160m': 16, '830m': 8, '1.4b': 4 };
/** Milliseconds of copies ahead of a profiled step, for the host to get ahead. */
const BACKLOG = 60;

const schema = {
  name: 'training-rate',
  columns: [
    ...MODEL,
    TOKENS_PER_STEP,
    SECONDS,
    TOKENS_PER_SECOND,
    {
      name: 'flops_per_second',
      kind: 'timing',
      description: 'by formula (6 N a token and attention) over seconds',
      digits: 0,
    },
    {
      name: 'product_flops_per_second',
      kind: 'timing',
      description: 'large bfloat16 product directly after the steps',
      digits: 0,
    },
    { name: 'share', kind: 'timing', description: 'of the product rate', digits: 3 },
    { name: 'first_loss', kind: 'timing', description: 'nats per token', digits: 4 },
    LAST_LOSS,
    PEAK_BYTES,
  ],
} as const;

const models = (process.argv[3] ?? '160m').split(',').flatMap((preset) =>
  (['yoco', 'transformer'] as const).map((architecture) => ({
    ...{ preset, architecture, batch: BATCHES[preset] ?? 1 },
    config: presetConfig(preset, architecture),
  })),
);
const { engine, table } = await openSession(schema, {
  configuration: models.map(({ preset, config }) => ({ name: preset, ...config })),
  constants: {
    batches: models.map(({ batch }) => batch),
    length: TIME,
    steps: STEPS,
    warmUp: WARM_UP,
    seed: 1,
  },
});

const product = await ProductRate.choose(engine);

/** The rate of a large product on the card as it is now, told on stderr. */
async function productRate(when: string): Promise<number> {
  const rate = await product.measure();
  const size = product.size.toLocaleString('en-US');
  process.stderr.write(`product of ${size}³ ${when}: ${(rate / 1e12).toFixed(0)} TFLOP/s\n`);
  return rate;
}

await productRate('on the cool card');
for (const { preset, architecture, batch, config } of models) {
  const { step, dispose } = trainer(config, batch, TIME);
  const losses: number[] = [];
  const seconds = median((await timeRuns(engine, STEPS + WARM_UP, () => losses.push(step()))).slice(WARM_UP));
  const stepsPeak = engine.memory().peakBytes;
  const rate = await productRate(`after the steps of ${preset} ${architecture}`);
  engine.resetPeak();
  // What kernels take is told only where they are launched one by one.
  const recorder = stepRecorder() ?? null;
  registerRecorder(tf.getBackend(), null);
  const ofStep = kernelTimes(cudaBackend(), BACKLOG, () => {
    losses.push(step());
  });
  registerRecorder(tf.getBackend(), recorder);
  printKernelTimes(`training step, ${preset} ${architecture}`, ofStep, 40);
  const count = batch * TIME;
  const flops = (costs(config).trainFlopsPerToken(TIME) * count) / seconds;
  table.append({
    model: preset,
    architecture,
    tokens_per_step: count,
    seconds,
    tokens_per_second: count / seconds,
    flops_per_second: flops,
    product_flops_per_second: rate,
    share: flops / rate,
    first_loss: losses[0] ?? null,
    last_loss: losses.at(-1) ?? null,
    peak_bytes: Math.max(stepsPeak, engine.memory().peakBytes),
    status: 'ok',
  });
  dispose();
  engine.resetPeak();
}
table.close();
