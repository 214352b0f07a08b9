import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../src/errors.js';
import { computeOf, startEngine } from '../../src/engines/start.js';
import { createConfig, createModel } from '../../src/model/index.js';
import { weightDefaults } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { moduleUrl, SCRIPT } from '../cli/program.js';

const engineFile = moduleUrl('engines/cpu/index');
const tfFile = moduleUrl('tf');

const test = suite('starting engines');

/** What `run` writes to stderr. */
async function stderrOf(run: () => Promise<unknown>): Promise<string> {
  const write = process.stderr.write.bind(process.stderr);
  let written = '';
  process.stderr.write = (chunk: string | Uint8Array) => {
    written += chunk.toString();
    return true;
  };
  try {
    await run();
  } finally {
    process.stderr.write = write;
  }
  return written;
}

async function errorOf(run: () => Promise<unknown>): Promise<unknown> {
  try {
    await run();
  } catch (error) {
    return error;
  }
  return undefined;
}

test('cpu becomes the current backend and counts what tensors hold', async () => {
  const engine = await startEngine('cpu', { threads: 1 });
  assert.is(tf.getBackend(), engine.backend);
  assert.is(engine.threads, 1);
  const before = engine.memory();
  engine.resetPeak();
  const x = tf.zeros([1000, 100]);
  const y = tf.reshape(x, [100, 1000]);
  assert.is(engine.memory().liveBytes - before.liveBytes, 400_000);
  const z = tf.neg(y);
  z.dispose();
  x.dispose();
  assert.is(
    engine.memory().liveBytes - before.liveBytes,
    400_000,
    'the reshaped tensor still holds the memory',
  );
  y.dispose();
  assert.is(engine.memory().liveBytes, before.liveBytes);
  assert.is(engine.memory().peakBytes - before.liveBytes, 800_000);
  assert.ok(engine.memory().reservedBytes >= 400_000, 'the pool keeps memory for the next tensors');
  assert.ok(engine.availableBytes() > 2 ** 20);
  await engine.synchronize();
});

test('what was read from a tensor outlives it', async () => {
  await startEngine('cpu', { threads: 2 });
  const x = tf.fill([100, 100], 1);
  const values = x.dataSync();
  x.dispose();
  tf.fill([100, 100], 2).dispose();
  assert.is(values[5], 1);
});

test('a wrong number of threads and 16-bit storage on the CPU are usage errors', async () => {
  assert.instance(await errorOf(() => startEngine('cpu', { threads: 0 })), UsageError);
  assert.instance(await errorOf(() => startEngine('cpu', { storage: 'bfloat16' })), UsageError);
});

test('models made after a start with float8 are in it, and those after another start are not', async () => {
  const config = createConfig({ dim: 16, layers: 2, hiddenDim: 32, heads: 2, vocabSize: 11 });
  const values = (): Float32Array => {
    const model = createModel(config, { seed: 1 });
    const weight = model.parameters.get('self_decoder.layers.0.ffn.fc1.weight') as tf.Variable;
    const found = weight.dataSync<'float32'>();
    model.dispose();
    return found;
  };
  const engine = await startEngine('cpu', { threads: 1, compute: 'float8' });
  // The cpu engine rounds and stores float32.
  assert.equal([engine.compute, weightDefaults.compute, weightDefaults.stored], ['float8', 'float8', null]);
  const rounded = values();
  assert.is((await startEngine('cpu', { threads: 1 })).compute, null);
  const exact = values();
  assert.not.equal(rounded, exact);
  rounded.forEach((x, i) => {
    assert.ok(Math.abs(x - (exact[i] as number)) <= Math.max(Math.abs(x) / 15, 0.25 / 512), `${x}`);
  });
});

test('an engine without float8 refuses it in a line that names those that have it', async () => {
  const engine = await startEngine('cpu', { threads: 1 });
  const other = { ...engine, name: 'webgpu', float8: undefined } as const;
  assert.is(computeOf(other, undefined), null);
  assert.is(computeOf(engine, 'float8'), 'float8');
  assert.throws(
    () => computeOf(other, 'float8'),
    (error: unknown) =>
      error instanceof UsageError &&
      /^the webgpu engine .*\(--compute\).* engine cuda .* compute capability 9\.0 .*, and engine cpu$/.test(
        error.message,
      ),
  );
});

test('auto with a wrong setting of the kernels in C is a usage error where no GPU starts', async () => {
  const before = process.env.YOCO_NATIVE;
  process.env.YOCO_NATIVE = 'perhaps';
  try {
    const error = await errorOf(() => startEngine('cpu'));
    assert.instance(error, UsageError);
    const notes: string[] = [];
    const automatic = await errorOf(() => startEngine('auto', {}, { note: (line) => notes.push(line) }));
    if (notes.length > 0) return;
    assert.instance(automatic, UsageError);
    assert.match(String(automatic), /No engine starts: .*YOCO_NATIVE is on or off, not perhaps/);
  } finally {
    if (before === undefined) delete process.env.YOCO_NATIVE;
    else process.env.YOCO_NATIVE = before;
  }
});

test('auto tells in one line which engine it took, and why others did not start as details', async () => {
  const [notes, details]: [string[], string[]] = [[], []];
  const said = await stderrOf(() =>
    startEngine('auto', {}, { note: (line) => notes.push(line), detail: (line) => details.push(line) }),
  );
  assert.is(said, '', 'the library does not write to the terminal');
  assert.is(notes.length, 1);
  assert.match(notes.join(), /^engine: (cuda|tensorflow|webgpu|cpu) \(.+\)/);
  if (notes[0]?.startsWith('engine: cpu')) assert.is(details.length, 3);
});

test('more threads than cores are as many as cores, with a remark', async () => {
  const notes: string[] = [];
  const engine = await startEngine('cpu', { threads: 9999 }, { note: (line) => notes.push(line) });
  assert.is(engine.threads, availableParallelism());
  assert.match(notes.join(), /9999 threads were asked for; this machine has \d+ cores/);
});

test('without a binary of ONNX Runtime cpu runs on plain tfjs, and says so', () => {
  const script = `
    Object.defineProperty(process, 'arch', { value: 'unknown' });
    const { startCpu } = await import(${JSON.stringify(engineFile)});
    const tf = await import(${JSON.stringify(tfFile)});
    const engine = await startCpu();
    const x = tf.ones([100, 100]);
    const sum = tf.sum(tf.matMul(x, x)).dataSync()[0];
    process.stdout.write([engine.description, sum, engine.memory().liveBytes].join('; '));`;
  const child = spawnSync(process.execPath, [...SCRIPT, script], {
    encoding: 'utf8',
  });
  assert.is(child.stdout, 'tfjs cpu, 1 thread; 1000000; 80004');
  assert.match(child.stderr, /ONNX Runtime does not load on .*-unknown/);
});

test.after(async () => {
  await tf.setBackend('cpu');
});

test.run();
