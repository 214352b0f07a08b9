/** Signals that arrive while native code of the CUDA engine runs. */
import { spawnSync } from 'node:child_process';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { exitOnSignals } from '../../../src/engines/cuda/signals.js';
import { moduleUrl, SCRIPT } from '../../cli/program.js';

const test = suite('cuda signals');

test('a signal during native code ends the process after it, or goes to who listens', () => {
  const statusOf = (before: string): number | null => {
    const script = `
      import { exitOnSignals } from ${JSON.stringify(moduleUrl('engines/cuda/signals'))};
      ${before}
      exitOnSignals(() => process.kill(process.pid, 'SIGTERM'));
      setTimeout(() => process.exit(1), 20000);`;
    return spawnSync(process.execPath, [...SCRIPT, script]).status;
  };
  assert.is(statusOf(''), 143);
  assert.is(statusOf("process.on('SIGTERM', () => process.exit(7));"), 7);
});

/** Long enough for listeners to be taken back. */
async function someTurns(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test('signals are handled as before once native code has run', async () => {
  // Other tests may have compiled a kernel just now.
  await someTurns();
  const before = process.listenerCount('SIGTERM');
  assert.is(
    exitOnSignals(() => process.listenerCount('SIGTERM')),
    Math.max(1, before),
  );
  await someTurns();
  assert.is(process.listenerCount('SIGTERM'), before);
});

test.run();
