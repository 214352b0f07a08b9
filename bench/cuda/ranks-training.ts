/**
 * Data parallel training, started once for each GPU: `torchrun --no-python --nproc-per-node N node --import tsx
 * bench/cuda/ranks-training.ts DIRECTORY [160m|3b]`. One rank is measured in the same run, on every GPU by itself.
 */
import { SOLO } from '../../src/distributed/communicator.js';
import { costs, presetConfig } from '../../src/model/index.js';
import { timeRuns } from '../../src/profiling/timing.js';
import { median } from '../../src/sweep/statistics.js';
import { trainer } from '../training-step.js';
import { counted } from './counted.js';
import { openSession } from './session.js';
import {
  LAST_LOSS,
  MODEL,
  PEAK_BYTES,
  SECONDS,
  TOKENS_PER_SECOND,
  TOKENS_PER_STEP,
} from './training-columns.js';

const [TIME, STEPS, WARM_UP] = [2048, 8, 3];
/** Presets of a size, and the sequences of a step on each GPU. */
const SIZES = {
  '160m': { yoco: '160m', transformer: '160m', batch: 16 },
  '3b': { yoco: 'yoco-3b', transformer: 'transformer-3b', batch: 4 },
} as const;
/** Bytes of a parameter as layers read it. */
const STORED = 2;

const schema = {
  name: 'ranks-training',
  columns: [
    ...MODEL,
    { name: 'ranks', kind: 'key', description: 'GPUs that train together' },
    TOKENS_PER_STEP,
    SECONDS,
    TOKENS_PER_SECOND,
    { name: 'speedup', kind: 'timing', description: 'over one rank in the same run', digits: 3 },
    {
      name: 'optimizer_bytes',
      kind: 'timing',
      description: 'of one rank after a step, beyond parameters of 16 bits: moments and float32 weights',
      display: 'bytes',
    },
    { name: 'optimizer_share', kind: 'timing', description: 'of that of one rank alone', digits: 3 },
    { name: 'sent_bytes', kind: 'timing', description: 'by one rank in a step', display: 'bytes' },
    PEAK_BYTES,
    LAST_LOSS,
  ],
} as const;

const size = process.argv[3] === '3b' ? '3b' : '160m';
const { batch, ...presets } = SIZES[size];
const { engine, table, communicator } = await openSession(schema, {
  configuration: (['yoco', 'transformer'] as const).map((name) => ({ ...presetConfig(presets[name], name) })),
  constants: { batch, length: TIME, steps: STEPS, warmUp: WARM_UP, seed: 1 },
});

interface Measured {
  readonly seconds: number;
  readonly optimizerBytes: number;
  readonly sentBytes: number;
  readonly peakBytes: number;
  readonly lastLoss: number;
}

async function measure(architecture: 'yoco' | 'transformer', ranks: number): Promise<Measured> {
  const config = presetConfig(presets[architecture], architecture);
  const { communicator: world, sent } = counted(ranks === 1 ? SOLO : communicator);
  const before = engine.memory().liveBytes;
  engine.resetPeak();
  const { step, dispose } = trainer(config, batch, TIME, { world });
  let lastLoss = step();
  const optimizerBytes = engine.memory().liveBytes - before - STORED * costs(config).parameters();
  const sentBytes = sent.collected + sent.other;
  communicator.barrier();
  const seconds = await timeRuns(engine, WARM_UP + STEPS, () => {
    lastLoss = step();
  });
  dispose();
  const peakBytes = engine.memory().peakBytes - before;
  return { seconds: median(seconds.slice(WARM_UP)), optimizerBytes, sentBytes, peakBytes, lastLoss };
}

for (const architecture of ['yoco', 'transformer'] as const) {
  const alone = await measure(architecture, 1);
  for (const ranks of communicator.size === 1 ? [1] : [1, communicator.size]) {
    const found = ranks === 1 ? alone : await measure(architecture, ranks);
    const tokens = ranks * batch * TIME;
    const speedup = (ranks * alone.seconds) / found.seconds;
    table.append({
      ...{ model: size, architecture, ranks, speedup },
      tokens_per_step: tokens,
      seconds: found.seconds,
      tokens_per_second: tokens / found.seconds,
      optimizer_bytes: found.optimizerBytes,
      optimizer_share: found.optimizerBytes / alone.optimizerBytes,
      sent_bytes: found.sentBytes,
      peak_bytes: found.peakBytes,
      last_loss: found.lastLoss,
      status: 'ok',
    });
    if (communicator.rank > 0) continue;
    const rate = Math.round(tokens / found.seconds);
    process.stdout.write(
      `${size} ${architecture}, ${ranks} ranks: ${(found.seconds * 1000).toFixed(2)} ms, ${rate} tokens/s, ${speedup.toFixed(3)} x, ` +
        `optimizer ${(found.optimizerBytes / alone.optimizerBytes).toFixed(3)} of one, loss ${found.lastLoss.toFixed(4)}\n`,
    );
  }
}
table.close();
communicator.close();
