import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { lockDirectory } from '../../src/files/lock.js';
import { refuses, scratchDirectory } from '../checkpoint/scratch.js';
import { stressLock } from '../robustness/lock.js';

const test = suite('files/lock');
const at = scratchDirectory(test);

const leave = (owner: object | string, file = 'train.lock'): void => {
  writeFileSync(at(file), typeof owner === 'string' ? owner : JSON.stringify(owner));
};
const lock = (directory = at(), reentrant = false): (() => void) =>
  lockDirectory(directory, 'train', { doing: 'training', reentrant });
const holder = (): unknown => (JSON.parse(readFileSync(at('train.lock'), 'utf8')) as { pid: number }).pid;

test('a directory is locked once, and free again afterwards', () => {
  const unlock = lock(at('run'));
  refuses(() => lock(at('run')), new RegExp(`process ${process.pid} is training there: wait for it`));
  unlock();
  assert.equal(readdirSync(at('run')), []);
  lock(at('run'))();
});

test('a process may take a lock again that it holds; the last release counts', () => {
  const [first, second] = [lock(at(), true), lock(at(), true)];
  first();
  first();
  assert.ok(existsSync(at('train.lock')));
  second();
  assert.equal(readdirSync(at()), []);
});

test('the lock of a running process holds', () => {
  leave({ pid: process.ppid, host: hostname(), began: null });
  refuses(() => lock(), new RegExp(`process ${process.ppid} is training there`));
  leave({ pid: process.ppid, host: 'elsewhere', began: null });
  refuses(() => lock(), /on elsewhere is training there.*remove .*train\.lock/);
});

test('what a process left that is gone does not hold', () => {
  const { pid } = spawnSync(process.execPath, ['--version']);
  const before = { host: hostname(), began: null };
  const dead: (object | string)[] = [
    { pid, ...before },
    { pid: process.pid, ...before },
    ...['', '{"pid":', 'null', '7', '[]', '{"pid":"1"}', '{"host":null}'],
    { pid: 0, ...before },
    { pid: 1.5, ...before },
  ];
  // The number of a dead process that another has now; only Linux says when a process began.
  if (existsSync('/proc/self/stat')) dead.push({ pid: process.ppid, host: hostname(), began: '1' });
  for (const owner of dead) {
    leave(owner);
    leave(owner, 'train.lock.0123456789ab');
    const unlock = lock();
    assert.is(holder(), process.pid, JSON.stringify(owner));
    unlock();
    assert.equal(
      readdirSync(at()).filter((name) => name === 'train.lock'),
      [],
    );
  }
});

test('what processes left that died while they took a lock is removed', () => {
  const { pid } = spawnSync(process.execPath, ['--version']);
  leave({ pid, host: hostname(), began: null });
  leave({ pid, host: hostname(), began: null }, 'train.lock.0123456789ab');
  leave({ pid, host: hostname(), began: null }, 'train.lock.0123456789ab.new');
  leave({ pid: process.ppid, host: hostname(), began: null }, 'train.lock.fedcba987654');
  leave('mine', 'train.lock.txt');
  lock()();
  assert.equal(readdirSync(at()).sort(), ['train.lock.fedcba987654', 'train.lock.txt']);
});

test('three processes that take a lock in turn are never in it together', async () => {
  const { acquired, violations } = await stressLock({ processes: 3, milliseconds: 2500 });
  assert.is(violations, 0);
  assert.ok(acquired > 20, `only ${acquired} times`);
});

test.run();
