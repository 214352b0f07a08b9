/**
 * Training steps in bfloat16, `node --import tsx bench/cuda/training.ts DIRECTORY [160m,830m,1.4b]`: tokens/s, and the share of this
 * card's rate in a large product.
 */
import { linear, registerRecorder, stepRecorder } from '../../src/ops/index.js';
import { costs, presetConfig } from '../../src/model/index.js';
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
const SIZE = 8192;
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
      description: 'bfloat16 product of 8192³ in the same run',
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
    productSize: SIZE,
    seed: 1,
  },
});

async function productRate(): Promise<number> {
  const rows = tf.randomNormal<tf.Rank.R2>([64, SIZE]);
  const square = tf.tile(rows, [SIZE / 64, 1]);
  const seconds = await timeRuns(engine, 8, () => {
    for (let i = 0; i < 4; i++) linear(square, square).dispose();
  });
  tf.dispose([rows, square]);
  return (4 * 2 * SIZE ** 3) / median(seconds.slice(3));
}

const rate = await productRate();
for (const { preset, architecture, batch, config } of models) {
  const { step, dispose } = trainer(config, batch, TIME);
  const losses: number[] = [];
  const seconds = median((await timeRuns(engine, STEPS + WARM_UP, () => losses.push(step()))).slice(WARM_UP));
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
    peak_bytes: engine.memory().peakBytes,
    status: 'ok',
  });
  dispose();
  engine.resetPeak();
}
table.close();
