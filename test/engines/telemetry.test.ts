/** The switch of ONNX Runtime's telemetry, as the C library sees it: `process.env` of Node is not always the same. */
import { spawnSync } from 'node:child_process';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { moduleUrl, SCRIPT } from '../cli/program.js';

const test = suite('cpu engine: telemetry');

const libraryFile = moduleUrl('engines/cpu/library');

/** What `getenv` says after a process, or a worker thread of it, has loaded ONNX Runtime. */
function switchAfterLoading(environment: NodeJS.ProcessEnv, { worker = false } = {}): string {
  const load = `
    import(${JSON.stringify(libraryFile)}).then(async ({ loadApi }) => {
      const { default: koffi } = await import('koffi');
      loadApi();
      const value = koffi.load(null).func('const char *getenv(const char *name)')('ORT_DISABLE_TELEMETRY');
      process.stdout.write(String(value));
    });`;
  const inWorker = `
    const { Worker } = await import('node:worker_threads');
    const load = "import('tsx/esm/api').then(({ register }) => { register();" + ${JSON.stringify(load)} + '});';
    new Worker(load, { eval: true });`;
  const script = worker ? inWorker : load;
  const { PATH } = process.env;
  const { stdout, stderr } = spawnSync(process.execPath, [...SCRIPT, script], {
    encoding: 'utf8',
    env: { PATH, ...environment },
  });
  return stdout || stderr;
}

test('is off before the library is loaded, whatever the environment says', () => {
  assert.is(switchAfterLoading({}), '1');
  assert.is(switchAfterLoading({ ORT_DISABLE_TELEMETRY: '0' }), '1');
  assert.is(switchAfterLoading({ ORT_DISABLE_TELEMETRY: '', YOCO_ORT_TELEMETRY: '0' }), '1');
});

test('is off in a worker thread, whose process.env is a copy', () => {
  assert.is(switchAfterLoading({ ORT_DISABLE_TELEMETRY: '0' }, { worker: true }), '1');
});

test('is as the vendor ships it where the person asks for that', () => {
  assert.is(switchAfterLoading({ YOCO_ORT_TELEMETRY: '1' }), 'null');
});

test.run();
