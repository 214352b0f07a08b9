import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { TestQueue } from './queue.js';
import { runFiles, type Totals } from './run-files.js';

const test = suite('runner');

async function run(...names: string[]): Promise<Totals & { printed: string }> {
  let printed = '';
  const totals = await runFiles({
    root: fileURLToPath(new URL('fixtures', import.meta.url)),
    files: names.map((name) => `${name}.ts`),
    processes: 2,
    print: (text) => (printed += text),
  });
  return { ...totals, printed };
}

test('counts what passes, fails and is skipped, and why', async () => {
  const { printed, ...totals } = await run('failing', 'passing', 'unprepared');
  assert.equal(totals, { passed: 3, failed: 2, skipped: 1 });
  assert.match(printed, /1 skipped: it is a fixture\nfailed: failing\.ts\nfailed: unprepared\.ts\n$/);
  assert.match(printed, /one is not two/);
  assert.match(printed, /before\(\) or after\.each\(\) has failed/);
});

test('a file that cannot be loaded, ends its process or waits for ever is one failure; the rest goes on', async () => {
  const { printed, ...totals } = await run('broken', 'killed', 'endless', 'passing');
  assert.equal(totals, { passed: 2, failed: 3, skipped: 1 });
  assert.match(printed, /broken\.ts [^\n]*\n *Error: this file cannot be loaded/);
  assert.match(
    printed,
    /killed\.ts [^\n]*\n[^\n]*about to end\n *the process of killed\.ts ended by SIGKILL/,
  );
  assert.match(printed, /the process of endless\.ts ended with exit status 0/);
});

test('files that share a device are never run at once', async () => {
  const queue = new TestQueue(['engines/cuda/a.test.ts', 'ops/kernels/cuda.test.ts', 'errors.test.ts']);
  const taken = [await queue.take(), await queue.take()].sort();
  assert.equal(taken, ['engines/cuda/a.test.ts', 'errors.test.ts']);
  const third = queue.take();
  queue.release('errors.test.ts');
  assert.is(await Promise.race([third, Promise.resolve('waits')]), 'waits');
  queue.release('engines/cuda/a.test.ts');
  assert.is(await third, 'ops/kernels/cuda.test.ts');
  assert.is(await queue.take(), null);
});

test.run();
