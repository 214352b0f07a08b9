/** Recorded training steps on a device that computes nothing: when they are made and what they hold. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../../src/engines/cuda/index.js';
import { createConfig } from '../../../src/model/index.js';
import { adamWRule, IDLE_RULE } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { createRecipe } from '../../../src/training/recipe.js';
import { MOST_TOKENS } from '../../../src/training/recorded-steps.js';
import { measureLosses, noLosses } from '../../../src/training/step.js';
import { trainModel } from '../../../src/training/train.js';
import { writeCorpus } from '../../training/small-run.js';
import { waits } from './early-kernels.js';
import { standIn, type Launch } from './stand-in.js';
import { liveBytes, refused, SHAPE, started } from './stand-in-models.js';
import { LENGTH, MODELS, NAMES, OPTIONS, ROWS, Training } from './training-steps.js';

const test = suite('recorded training');

/** What is the same whatever addresses it is launched with. */
const described = ({ name, grid, args, storage }: Launch): string => {
  const fixed = args.filter(({ kind }) => kind === 'int32' || kind === 'int64' || kind === 'float32');
  return JSON.stringify([name, grid, storage, fixed]);
};

for (const name of NAMES) {
  for (const recompute of [false, true]) {
    test(`${name}${recompute ? ', recomputing' : ''}: the second step is recorded, later ones are one launch`, async () => {
      const { on, model } = await started(MODELS[name]);
      const before = liveBytes(on);
      const tensors = tf.memory().numTensors;
      const training = new Training(model, recompute);
      training.run(ROWS, LENGTH);
      assert.is(on.graphs.size, 0);
      on.launches.length = 0;
      on.uploads.length = 0;
      training.run(ROWS, LENGTH);
      const [[graph, recorded] = [0, []]] = on.graphs;
      assert.equal(on.replays, [graph], 'rehearsed');
      assert.equal(recorded.map(described), on.launches.map(described), 'the same launches');
      const idle = on.uploads.map(({ bytes }) => bytes.join());
      assert.ok(idle.includes(new Uint8Array(IDLE_RULE.buffer).join()), 'the rehearsal changes nothing');
      on.launches.length = 0;
      for (let i = 0; i < 3; i++) {
        on.uploads.length = 0;
        training.run(ROWS, LENGTH);
        const { tokens, targets } = training.batch(ROWS, LENGTH);
        const { step } = training;
        const rule = adamWRule({ ...OPTIONS, step, learningRate: training.learningRate() });
        assert.equal(
          on.uploads.map(({ bytes }) => bytes.join()),
          [tokens, targets, rule].map((values) => new Uint8Array(values.buffer).join()),
        );
      }
      assert.is(on.launches.length, 0);
      assert.is(on.replays.length, 4);
      assert.is(training.computed, 2);
      training.dispose();
      assert.is(on.graphs.size, 0);
      assert.is(tf.memory().numTensors, tensors);
      // Float32 copies of the weights and the tables of frequencies stay.
      const copies = 4 * [...model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
      assert.ok(liveBytes(on) - before <= copies + 8192, `${liveBytes(on) - before - copies} bytes are left`);
      model.dispose();
    });
  }
}

test('every kernel that is launched early waits for the one before it', async () => {
  for (const config of Object.values(MODELS)) {
    const { on, model } = await started(config);
    const training = new Training(model);
    for (let i = 0; i < 2; i++) training.run(ROWS, LENGTH);
    const early = (on.graphs.get(1) ?? []).filter((launch) => launch.early !== undefined);
    assert.ok(new Set(early.map(({ name }) => name)).size > 1);
    for (const launch of early) assert.ok(waits(launch), `${launch.name} of ${launch.early}`);
    training.dispose();
    model.dispose();
  }
});

test('the rule is read from where it is uploaded to, and only there', async () => {
  const { on, model } = await started(MODELS.transformer);
  const training = new Training(model);
  for (let i = 0; i < 3; i++) training.run(ROWS, LENGTH);
  const moving = (launches: readonly Launch[]): unknown =>
    launches.find(({ name }) => name === 'adamw')?.args[4];
  assert.equal(moving(on.launches), { kind: 'pointer', value: 0 });
  assert.equal(moving(on.graphs.get(1) ?? []), { kind: 'pointer', value: on.uploads.at(-1)?.address });
  training.dispose();
  model.dispose();
});

test('other shapes, other weights and another model end a recording', async () => {
  const { on, model } = await started(MODELS['gated retention']);
  const training = new Training(model);
  const replays = (count: number, length = LENGTH): number => {
    const before = training.computed;
    for (let i = 0; i < count; i++) training.run(ROWS, length);
    return count - (training.computed - before);
  };
  assert.is(replays(4), 2);
  assert.is(replays(5, 2 * LENGTH), 3, 'recorded again');
  assert.is(on.graphs.size, 1, 'the first is gone');
  const [name = ''] = model.parameters.keys();
  model.load(name, new Float32Array(model.parameters.get(name)?.size ?? 0));
  assert.is(replays(3, 2 * LENGTH), 1, 'recorded again');
  training.dispose();
  model.dispose();
});

test('steps of many tokens are computed', async () => {
  const { on, model } = await started(MODELS['gated retention']);
  const training = new Training(model);
  for (const [rows, graphs] of [
    [MOST_TOKENS / 64 + 1, 0],
    [MOST_TOKENS / 64, 1],
  ] as const) {
    for (let i = 0; i < 3; i++) training.run(rows, 64);
    assert.is(on.graphs.size, graphs);
  }
  training.dispose();
  model.dispose();
});

test('held-out losses between steps get memory of their own', async () => {
  const { on, model } = await started(MODELS['gated retention']);
  const training = new Training(model);
  for (let i = 0; i < 3; i++) training.run(ROWS, LENGTH);
  const pointers = (launches: readonly Launch[]): Set<number> =>
    new Set(launches.flatMap(({ args }) => args.map((arg) => (arg.kind === 'pointer' ? arg.value : 0))));
  const recorded = pointers(on.graphs.get(1) ?? []);
  // What both may read: weights, tables.
  const shared = new Set<number>([0]);
  on.launches.length = 0;
  training.run(ROWS, LENGTH, false);
  for (const address of pointers(on.launches)) shared.add(address);
  const own = new Set([...recorded].filter((address) => !shared.has(address)));
  assert.ok(own.size > 20, `${own.size} addresses are the recording's`);
  on.launches.length = 0;
  measureLosses(model, training.batch(2 * ROWS, LENGTH));
  const taken = [...pointers(on.launches)].filter((address) => own.has(address));
  assert.equal(taken, []);
  training.dispose();
  model.dispose();
});

test('where memory runs out the recording gives its own back, and steps are computed', async () => {
  const { on, model } = await started(MODELS['gated retention']);
  const training = new Training(model);
  for (let i = 0; i < 3; i++) training.run(ROWS, LENGTH);
  assert.is(on.graphs.size, 1);
  const { driver, allocator } = on.device;
  const allocate = driver.allocate.bind(driver);
  driver.allocate = (bytes) => (on.graphs.size > 0 ? null : allocate(bytes));
  allocator.release(allocator.allocate(2 ** 26));
  assert.is(on.graphs.size, 0);
  const reasons = refused(() => {
    for (let i = 0; i < 3; i++) training.run(ROWS, LENGTH);
  });
  assert.equal(reasons, ['not enough memory for a recorded training step']);
  assert.is(training.computed, 5);
  training.dispose();
  model.dispose();
});

test('without memory for a recording steps are computed', async () => {
  const { on, model } = await started(MODELS.transformer);
  const training = new Training(model);
  training.run(ROWS, LENGTH);
  const { driver } = on.device;
  const allocate = driver.allocate.bind(driver);
  driver.allocate = (bytes) => (on.device.recording === null ? allocate(bytes) : null);
  on.device.allocator.trim();
  const held = on.device.allocator.memory().liveBytes;
  const reasons = refused(() => {
    for (let i = 0; i < 3; i++) training.run(ROWS, LENGTH);
  });
  assert.equal(reasons, ['not enough memory for a recorded training step']);
  assert.is(training.computed, 4);
  assert.is(on.device.allocator.memory().liveBytes, held, 'nothing is left of it');
  training.dispose();
  model.dispose();
});

for (const what of ['losses', 'norm'] as const) {
  test(`a recording that finds other ${what} is not used`, async () => {
    const { on, model } = await started(MODELS.transformer);
    const training = new Training(model);
    let reads = 0;
    on.device.driver.download = (host) => {
      if ((host.byteLength === 4) === (what === 'norm')) (host as Float32Array).fill(reads++);
    };
    const reasons = refused(() => {
      for (let i = 0; i < 4; i++) training.run(ROWS, LENGTH);
    });
    assert.equal(reasons, ['the recorded training step and the computed one differ']);
    assert.is(training.computed, 4);
    assert.is(on.graphs.size, 0);
    training.dispose();
    model.dispose();
  });
}

test('a step that leaves tensors behind is not run from a recording, which would overwrite them', async () => {
  const { on, model } = await started(MODELS.transformer);
  const training = new Training(model);
  training.run(ROWS, LENGTH);
  const kept: tf.Tensor[] = [];
  const reasons = refused(() => {
    const request = {
      model,
      batch: training.batch(ROWS, LENGTH),
      recompute: false,
      step: 2,
      learningRate: 1e-3,
    };
    training.recorded.run(request, () => {
      kept.push(tf.add(tf.ones([100]), 1));
      return { losses: { ...noLosses(), textTargets: ROWS * LENGTH }, norm: 0 };
    });
  });
  assert.equal(reasons, ['a training step leaves tensors behind']);
  assert.is(on.graphs.size, 0);
  tf.dispose(kept);
  training.dispose();
  model.dispose();
});

test('weighted losses and those of some positions are computed', async () => {
  const { on, model } = await started(MODELS.transformer);
  const training = new Training(model);
  const batch = training.batch(ROWS, LENGTH);
  for (const change of [
    { weights: new Float32Array(ROWS * LENGTH) },
    { positions: [new Int32Array(LENGTH)] },
  ]) {
    for (let step = 1; step < 4; step++) {
      const request = { model, batch: { ...batch, ...change }, recompute: false, step, learningRate: 1e-3 };
      const outcome = { losses: noLosses(), norm: step };
      assert.is(
        training.recorded.run(request, () => outcome),
        outcome,
      );
    }
  }
  assert.is(on.graphs.size, 0);
  training.dispose();
  model.dispose();
});

test('a run of stages records each of them anew, and leaves nothing', async () => {
  const on = standIn();
  const engine = await startOn(on.device);
  const directory = mkdtempSync(join(tmpdir(), 'yoco-recorded-'));
  const tensors = tf.memory().numTensors;
  try {
    const recipe = createRecipe({
      data: [writeCorpus(join(directory, 'text.txt'))],
      stages: [
        { steps: 5, batch: 2, length: 16 },
        { steps: 4, batch: 2, length: 32, ropeTheta: 500 },
      ],
      ...{ evalEvery: 2, evalTokens: 64, checkpointEvery: 3 },
    });
    const config = createConfig({ ...SHAPE, vocabSize: 264 });
    const began: number[] = [];
    const onProgress = (): void => void began.push(on.replays.length);
    const record = { command: [], flags: {} };
    const result = await trainModel({ directory, config, engine, recipe, record, onProgress });
    assert.is(result.status, 'finished');
    assert.equal(
      began,
      [0, 1, 2, 3, 4, 4, 5, 6, 7],
      'the first of a stage is computed, the second rehearsed',
    );
    assert.is(new Set(on.replays).size, 2);
    assert.is(on.graphs.size, 0);
    assert.is(tf.memory().numTensors, tensors);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test.after(async () => {
  await tf.setBackend('cpu');
});
test.run();
