/** Finding and loading the package, with one in its place that computes on the plain backend. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RunError, UsageError } from '../../../src/errors.js';
import { startTensorflow } from '../../../src/engines/tensorflow/index.js';
import type { EngineProbe } from '../../../src/engines/start.js';
import { moduleUrl, SCRIPT } from '../../cli/program.js';

const test = suite('the package of the tensorflow engine');
const outside = process.env.YOCO_TENSORFLOW;
let folder = '';

test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'yoco-tensorflow-'));
  process.env.YOCO_TENSORFLOW = folder;
});
test.after.each(() => {
  rmSync(folder, { recursive: true });
  if (outside === undefined) delete process.env.YOCO_TENSORFLOW;
  else process.env.YOCO_TENSORFLOW = outside;
});

/** Installs a package of one file in the folder. */
function install(name: string, code: string): void {
  const file = join(folder, 'node_modules', name, 'index.js');
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(join(dirname(file), 'package.json'), JSON.stringify({ name, main: 'index.js' }));
  writeFileSync(file, code);
}

/** A package with a backend of the name, beside another TensorFlow.js, which must not be loaded. */
function installStandIn(hasGpu: boolean): void {
  for (const name of ['@tensorflow/tfjs', '@tensorflow/tfjs-core'])
    install(name, `throw new Error('a second ${name}');`);
  install(
    '@tensorflow/tfjs-node-gpu',
    `const tf = require('@tensorflow/tfjs');
     const util = require('util');
     if (!util.isNullOrUndefined(undefined) || util.isNullOrUndefined(0) || !util.isArray([])) throw new Error('util');
     tf.copyRegisteredKernels('cpu', 'tensorflow');
     const Plain = tf.findBackend('cpu').constructor;
     const binding = { TF_Version: '9.8.7' };
     tf.registerBackend('tensorflow', () => Object.assign(new Plain(), { binding, isUsingGpuDevice: ${hasGpu} }));`,
  );
}

/** What every engine's start comes to, and which one \`auto\` takes, in a process of its own without what Node 23 removed. */
function probe(): { probes: EngineProbe[]; taken: string } {
  const file = moduleUrl('engines/start');
  const script = `
    import util from 'node:util';
    delete util.isNullOrUndefined;
    delete util.isArray;
    const { probeEngines, startEngine } = await import(${JSON.stringify(file)});
    const probes = await probeEngines();
    const { name } = await startEngine('auto');
    process.stdout.write(JSON.stringify({ probes, taken: name }));`;
  const { stdout, stderr } = spawnSync(process.execPath, [...SCRIPT, script], { encoding: 'utf8' });
  assert.not.match(stderr, /already/, 'nothing is registered twice');
  return JSON.parse(stdout) as { probes: EngineProbe[]; taken: string };
}

async function failure(options = {}): Promise<Error> {
  try {
    await startTensorflow(options);
  } catch (error) {
    return error as Error;
  }
  throw new Error('it started');
}

test('where it is not installed, a line names the folder and what to do', async () => {
  const error = await failure();
  assert.instance(error, RunError);
  assert.is(
    error.message,
    `tensorflow: @tensorflow/tfjs-node-gpu is not installed in ${folder} (YOCO_TENSORFLOW); docs/engines.md says how to build it`,
  );
});

test('an addon that does not load is told in one line', async () => {
  install('@tensorflow/tfjs', '');
  install('@tensorflow/tfjs-core', '');
  install('@tensorflow/tfjs-node-gpu', "throw new Error('libtensorflow_cc.so.2: cannot open\\nmore');");
  const error = await failure();
  assert.instance(error, RunError);
  assert.match(error.message, /does not load: libtensorflow_cc\.so\.2: cannot open; docs\/engines\.md/);
  assert.not.match(error.message, /more/);
});

test('16 bits, no threads and another number of threads than before are refused', async () => {
  await failure();
  const threads = Number(process.env.TF_NUM_INTRAOP_THREADS);
  for (const options of [{ storage: 'bfloat16' }, { threads: 0 }, { threads: threads + 1 }]) {
    assert.instance(await failure(options), UsageError, JSON.stringify(options));
  }
  assert.instance(await failure({ threads }), RunError);
});

test('without a GPU it starts by its name and auto passes it over', () => {
  installStandIn(false);
  const { probes, taken } = probe();
  const found = probes.find(({ name }) => name === 'tensorflow');
  assert.match(found?.description ?? '', /^libtensorflow 9\.8\.7 on CPU, \d+ threads$/);
  assert.match(found?.problem ?? '', /found no GPU, and on the CPU the cpu engine is faster/);
  assert.is.not(taken, 'tensorflow');
});

test('with a GPU auto takes it unless the cuda engine starts', () => {
  installStandIn(true);
  const { probes, taken } = probe();
  const found = probes.find(({ name }) => name === 'tensorflow');
  assert.is(found?.description, 'libtensorflow 9.8.7 on GPU');
  assert.is(found?.problem, null);
  const hasCuda = probes.some(({ name, description }) => name === 'cuda' && description !== null);
  assert.is(taken, hasCuda ? 'cuda' : 'tensorflow');
});

test.run();
