/**
 * `yoco train` in bfloat16 with its steps recorded and with all of them computed, in one process:
 * `node --import tsx bench/cuda/recorded-training.ts DIRECTORY [PRESET:BATCH:LENGTH,...]`. Logs and weights of both must be equal, byte
 * for byte; exit status 1 where they are not.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { presetConfig } from '../../src/model/index.js';
import { registerRecorder, reportRefusals, stepRecorder } from '../../src/ops/index.js';
import { median } from '../../src/sweep/statistics.js';
import * as tf from '../../src/tf.js';
import { createRecipe } from '../../src/training/recipe.js';
import { trainModel } from '../../src/training/train.js';
import { cudaBackend } from './kernel-times.js';
import { openSession } from './session.js';
import { MODEL, PEAK_BYTES, SECONDS, TOKENS_PER_SECOND, TOKENS_PER_STEP } from './training-columns.js';

/** Steps of a small model and of a large one; the held-out loss is measured in between. */
const [STEPS, LARGE_STEPS] = [300, 30];
const SMALL = ['pico', 'nano', 'tiny'];

const schema = {
  name: 'recorded-training',
  columns: [
    ...MODEL,
    { name: 'steps_are', kind: 'key', description: 'recorded or computed' },
    TOKENS_PER_STEP,
    SECONDS,
    TOKENS_PER_SECOND,
    {
      name: 'replay_seconds',
      kind: 'timing',
      description: 'of a step, from the launch of the recording to its end; median; empty where computed',
      digits: 6,
    },
    PEAK_BYTES,
  ],
} as const;

const cases = (process.argv[3] ?? 'tiny:8:256,tiny:32:256,tiny:64:512,160m:8:1024')
  .split(',')
  .flatMap((text) => {
    const [preset = '', batch, length] = text.split(':');
    const steps = SMALL.includes(preset) ? STEPS : LARGE_STEPS;
    return (['yoco', 'transformer'] as const).map((architecture) => ({
      ...{ preset, architecture, steps, batch: Number(batch), length: Number(length) },
      config: presetConfig(preset, architecture),
    }));
  });
const { engine, table } = await openSession(schema, {
  configuration: cases.map(({ preset, config }) => ({ name: preset, ...config })),
  constants: { cases: cases.map(({ batch, length, steps }) => [batch, length, steps]), seed: 1 },
});
const recorder = stepRecorder() ?? null;
const refusals: string[] = [];
reportRefusals((reason) => void refusals.push(reason));

/** Seconds of every replay, which waits for its end. */
const replays: number[] = [];
const { driver } = cudaBackend().device;
const launchGraph = driver.launchGraph.bind(driver);
driver.launchGraph = (graph) => {
  const began = performance.now();
  launchGraph(graph);
  driver.synchronize();
  replays.push((performance.now() - began) / 1000);
};

async function train({ config, steps, batch, length }: (typeof cases)[number], isRecorded: boolean) {
  registerRecorder(tf.getBackend(), isRecorded ? recorder : null);
  replays.length = 0;
  engine.resetPeak();
  const directory = mkdtempSync(join(tmpdir(), 'recorded-training-'));
  try {
    const recipe = createRecipe({
      ...{ steps, batch, length, evalEvery: steps / 3, evalTokens: batch * length },
      ...{ checkpointEvery: 0, data: ['sotu'] },
    });
    const record = { command: [], flags: {} };
    let last = performance.now();
    const whole: number[] = [];
    const onProgress = (): void => {
      const now = performance.now();
      whole.push((now - last) / 1000);
      last = now;
    };
    const result = await trainModel({ directory, config, engine, recipe, record, onProgress });
    const files = [join(directory, 'train.csv')];
    for (const name of ['model', 'training']) files.push(join(result.checkpoint, `${name}.safetensors`));
    const seconds = median(result.steps.slice(10).map((step) => step.seconds));
    return { seconds, whole: median(whole.slice(10)), left: files.map((file) => readFileSync(file)) };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const summary: string[] = [];
for (const one of cases) {
  const { preset, architecture, batch, length } = one;
  const count = batch * length;
  const runs: Awaited<ReturnType<typeof train>>[] = [];
  const rates: number[] = [];
  let replay = 0;
  for (const steps_are of ['computed', 'recorded'] as const) {
    const isRecorded = steps_are === 'recorded';
    const run = await train(one, isRecorded);
    runs.push(run);
    rates.push(count / run.seconds);
    replay = isRecorded ? median(replays) : 0;
    table.append({
      ...{ model: `${preset} ${batch}x${length}`, architecture, steps_are, tokens_per_step: count },
      ...{ seconds: run.seconds, tokens_per_second: count / run.seconds },
      replay_seconds: isRecorded ? replay : null,
      peak_bytes: engine.memory().peakBytes,
      status: 'ok',
    });
  }
  const [computed, recorded] = runs;
  const isSame = computed?.left.map((bytes, i) => recorded?.left[i]?.equals(bytes) === true) ?? [];
  if (isSame.includes(false)) process.exitCode = 1;
  const [before = 0, after = 0] = rates;
  summary.push(
    [
      `${preset} ${architecture} ${batch}x${length}`.padEnd(28),
      ...[before, after].map((rate) => `${(rate / 1e6).toFixed(3)}M tok/s`.padStart(14)),
      `${(after / before).toFixed(2)} x`.padStart(8),
      `replay ${(replay * 1e3).toFixed(3)} ms of ${((count / after) * 1e3).toFixed(3)}`.padStart(32),
      `, with log ${((recorded?.whole ?? 0) * 1e3).toFixed(3)} (computed: ${((computed?.whole ?? 0) * 1e3).toFixed(3)})`,
      `  log, weights, moments equal: ${isSame.join(' ')}`,
    ].join(''),
  );
  process.stderr.write(`${summary.at(-1) ?? ''}\n`);
}
table.close();
for (const reason of refusals) process.stdout.write(`refused: ${reason}\n`);
process.stdout.write(`${'model, batch'.padEnd(28)}${'computed'.padStart(14)}${'recorded'.padStart(14)}\n`);
process.stdout.write(`${summary.join('\n')}\n`);
