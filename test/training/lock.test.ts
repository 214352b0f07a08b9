import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { lockRun } from '../../src/training/lock.js';
import { refuses, scratchDirectory } from '../checkpoint/scratch.js';

const test = suite('training/lock');
const at = scratchDirectory(test);

const leave = (owner: object | string): void => {
  writeFileSync(at('train.lock'), typeof owner === 'string' ? owner : JSON.stringify(owner));
};

test('a directory is locked once, and free again afterwards', () => {
  const unlock = lockRun(at('run'));
  refuses(() => lockRun(at('run')), new RegExp(`process ${process.pid} is training there: wait for it`));
  unlock();
  assert.is(existsSync(at('run/train.lock')), false);
  lockRun(at('run'))();
});

test('the lock of a running process holds', () => {
  leave({ pid: process.ppid, host: hostname(), began: null });
  refuses(() => lockRun(at()), new RegExp(`process ${process.ppid} is training there`));
  leave({ pid: process.ppid, host: 'elsewhere', began: null });
  refuses(() => lockRun(at()), /on elsewhere is training there.*remove .*train\.lock/);
});

test('what a process left that is gone does not hold', () => {
  const { pid } = spawnSync(process.execPath, ['--version']);
  const before = { host: hostname(), began: null };
  const dead: (object | string)[] = [
    { pid, ...before },
    { pid: process.pid, ...before },
    '',
    '{"pid":',
    { pid: 0, ...before },
  ];
  // The number of a dead process that another has now; only Linux says when a process began.
  if (existsSync('/proc/self/stat')) dead.push({ pid: process.ppid, host: hostname(), began: '1' });
  for (const owner of dead) {
    leave(owner);
    const unlock = lockRun(at());
    assert.is((JSON.parse(readFileSync(at('train.lock'), 'utf8')) as { pid: number }).pid, process.pid);
    unlock();
    assert.equal(readdirSync(at()), []);
  }
});

test.run();
