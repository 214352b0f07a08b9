/** The few things only a process of its own shows: entry points, streams, exit status. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { packageRoot } from '../../src/package-root.js';

const test = suite('bin/dev.js');

const yoco = (...argv: string[]): { stdout: string; stderr: string; status: number | null } =>
  spawnSync(process.execPath, ['--import', 'tsx', 'bin/dev.js', ...argv], {
    cwd: packageRoot,
    encoding: 'utf8',
  });

let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-spawn-'));
});
test.after(() => {
  rmSync(directory, { recursive: true, force: true });
});

test('results alone are on stdout, remarks on stderr, and the exit status is 0', () => {
  const { stdout, stderr, status } = yoco(
    ...['profile-memory', '--analytic', '--ctx', '1k', '--format', 'csv', '--out', directory],
  );
  assert.match(stdout, /^model,architecture,.*\ntiny,yoco,gated-retention,1024,.*\n$/);
  assert.match(stderr, /written: /);
  assert.is(status, 0);
});

test('wrong usage is one line without a stack, and exit status 2', () => {
  const { stdout, stderr, status } = yoco('needle', '--ctx', '12q');
  assert.is(stdout, '');
  assert.match(stderr, /^yoco: --ctx: '12q' is not a number of tokens: [^\n]*\n$/);
  assert.is(status, 2);
});

test.run();
