/**
 * `yoco train` in bfloat16 with its steps recorded and with all of them computed, in one process:
 * `node --import tsx bench/cuda/recorded-training.ts DIRECTORY [PRESET:ARCHITECTURE:BATCH:LENGTH,...]`. Logs and weights of both must be equal, byte
 * for byte; exit status 1 where they are not.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConfig, presetConfig } from '../../src/model/index.js';
import { registerRecorder, reportRefusals } from '../../src/ops/index.js';
import { median } from '../../src/sweep/statistics.js';
import * as tf from '../../src/tf.js';
import { createRecipe } from '../../src/training/recipe.js';
import { trainModel } from '../../src/training/train.js';
import { cudaRecorder } from '../../src/engines/cuda/recorder.js';
import { cudaBackend } from './kernel-times.js';
import { openSession } from './session.js';
import { MODEL, PEAK_BYTES, SECONDS, TOKENS_PER_SECOND, TOKENS_PER_STEP } from './training-columns.js';

/** Steps of a small model and of a large one; the held-out loss is measured in between. */
const [STEPS, LARGE_STEPS] = [300, 30];
const SMALL = ['pico', 'nano', 'tiny'];
/** Vocabulary of all models: the text is read as bytes. */
const BYTES = 264;

const schema = {
  name: 'recorded-training',
  columns: [
    ...MODEL,
    {
      name: 'steps_are',
      kind: 'key',
      description: 'computed, recorded, or recorded without overlap of kernels',
    },
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

const DEFAULT =
  'tiny:yoco:8:256,tiny:transformer:8:256,tiny:yoco:32:256,tiny:transformer:32:256,tiny:yoco:64:512,160m:yoco:8:1024';
const cases = (process.argv[3] ?? DEFAULT).split(',').map((text) => {
  const [preset = '', architecture, batch, length] = text.split(':');
  const steps = SMALL.includes(preset) ? STEPS : LARGE_STEPS;
  if (architecture !== 'yoco' && architecture !== 'transformer') throw new Error(`what is ${text}?`);
  const config = createConfig({ ...presetConfig(preset, architecture), vocabSize: BYTES });
  return { preset, architecture, steps, batch: Number(batch), length: Number(length), config };
});
const { engine, table } = await openSession(schema, {
  configuration: cases.map(({ preset, config }) => ({ name: preset, ...config })),
  constants: { cases: cases.map(({ batch, length, steps }) => [batch, length, steps]), seed: 1 },
});
const MODES = {
  computed: null,
  recorded: cudaRecorder(cudaBackend()),
  'without overlap': cudaRecorder(cudaBackend(), { early: false }),
};
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

async function train({ config, steps, batch, length }: (typeof cases)[number], mode: keyof typeof MODES) {
  registerRecorder(tf.getBackend(), MODES[mode]);
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
  let expected: Awaited<ReturnType<typeof train>> | null = null;
  for (const steps_are of Object.keys(MODES) as (keyof typeof MODES)[]) {
    // Writing and comparing a large model takes longer than its steps.
    if (steps_are === 'without overlap' && !SMALL.includes(preset)) continue;
    const run = await train(one, steps_are);
    expected ??= run;
    const isSame = expected.left.map((bytes, i) => run.left[i]?.equals(bytes) === true);
    if (isSame.includes(false)) process.exitCode = 1;
    const replay = steps_are === 'computed' ? null : median(replays);
    table.append({
      ...{ model: `${preset} ${batch}x${length}`, architecture, steps_are, tokens_per_step: count },
      ...{ seconds: run.seconds, tokens_per_second: count / run.seconds, replay_seconds: replay },
      peak_bytes: engine.memory().peakBytes,
      status: 'ok',
    });
    const line = [
      `${preset} ${architecture} ${batch}x${length}`.padEnd(26),
      steps_are.padEnd(17),
      `${(count / run.seconds / 1e6).toFixed(3)}M tok/s`,
      `${(expected.seconds / run.seconds).toFixed(2)} x`.padStart(8),
      ...[run.seconds, run.whole, replay ?? 0].map((seconds) => (seconds * 1e3).toFixed(3).padStart(9)),
      `${(engine.memory().peakBytes / 2 ** 30).toFixed(2)} GiB`.padStart(11),
      `  ${isSame.every(Boolean) ? 'equal' : `DIFFER (log, weights, moments: ${isSame.join()})`}`,
      `  ${replays.length} replays`,
    ].join('');
    summary.push(line);
    process.stderr.write(`${line}\n`);
  }
}
table.close();
for (const reason of refusals) process.stdout.write(`refused: ${reason}\n`);
process.stdout.write(
  'case, steps, rate, against computed; ms: step, with log, replay; peak of tensors; files\n',
);
process.stdout.write(`${summary.join('\n')}\n`);
