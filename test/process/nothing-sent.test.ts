/** Nothing is sent, and nothing is written but results: what docs/engines.md promises. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { packageRoot } from '../../src/package-root.js';
import { YOCO } from '../cli/program.js';
import { skipBecause } from '../skip.js';
import { writeInputs } from './commands.js';
import { isOffence, watch, watcher } from './trace.js';

const test = suite('nothing is sent');

const SOFTWARE_DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';
const checkpoint = join(packageRoot, 'checkpoints/needle');

const inputs = mkdtempSync(join(tmpdir(), 'yoco-inputs-'));
writeInputs(inputs);
test.after(() => {
  rmSync(inputs, { recursive: true });
});

/** Commands by what they show; each may write into `out`. */
const RUNS: Readonly<Record<string, readonly string[]>> = {
  'needle on the CPU engine': [
    ...['needle', '--ctx', '512', '--depths', '50', '--trials', '1', '--checkpoint', checkpoint],
    ...['--engine', 'cpu', '--threads', '2', '--out', 'out'],
  ],
  'train on the CPU engine': [
    ...['train', '--preset', 'pico', '--steps', '2', '--batch', '1', '--length', '32', '--eval-tokens', '64'],
    ...['--engine', 'cpu', '--threads', '2', '--out', 'out'],
  ],
  "generate with Hugging Face's library, in a process of its own": [
    ...['generate', 'whale', '-n', '2', '--config', join(inputs, 'model.json')],
    ...['--tokenizer', join(inputs, 'tokenizer.json'), '--engine', 'cpu', '--threads', '2'],
  ],
  'the choice of an engine': ['generate', 'The whale', '-n', '1', '--checkpoint', checkpoint],
  'the help of a command': ['needle', '--help'],
  'the version': ['--version'],
  'a command that there is not': ['nedle'],
};

function check(words: readonly string[], environment?: NodeJS.ProcessEnv): void {
  const { offences, status, stderr } = watch([...YOCO, ...words], ['out', '.writable.'], environment);
  assert.ok(status === 0 || words.length === 1, stderr);
  assert.equal(offences, []);
}

if (watcher === null) skipBecause('neither strace nor unshare may be used here', test, 'all');
else {
  for (const [title, words] of Object.entries(RUNS))
    test(title, () => {
      check(words);
    });

  test('telemetry would be found', () => {
    const words = [
      ...YOCO,
      'generate',
      'The whale',
      '-n',
      '1',
      '--checkpoint',
      checkpoint,
      '--engine',
      'cpu',
    ];
    const { offences } = watch(words, [], { YOCO_ORT_TELEMETRY: '1' });
    if (process.platform === 'linux') assert.ok(offences.length > 0);
  });

  if (existsSync(SOFTWARE_DRIVER))
    test('generate on the WebGPU engine', () => {
      check(['generate', 'The whale', '-n', '1', '--checkpoint', checkpoint, '--engine', 'webgpu'], {
        VK_ICD_FILENAMES: SOFTWARE_DRIVER,
        LD_LIBRARY_PATH: '/usr/lib/chromium',
      });
    });
  else skipBecause('no software Vulkan driver (Debian: chromium)', test, 'webgpu');
}

test('a trace tells what is sent or written from what is not', () => {
  const offends = (line: string): boolean => isOffence(line, ['/w/out', '/t/tsx-'], '/w');
  for (const line of [
    '7 socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP) = 20',
    '7 socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 20',
    '7 connect(20<UNIX>, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT',
    '7 sendto(20, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(53)}, 28) = 1',
    '7 openat(AT_FDCWD</w>, "/etc/resolv.conf", O_RDONLY|O_CLOEXEC) = 20',
    '7 openat(AT_FDCWD</w>, "/root/.cache/x.db", O_RDWR|O_CREAT, 0644) = 20',
    '7 openat(20</root/.cache>, "id", O_WRONLY|O_CREAT, 0600) = -1 EACCES (Permission denied)',
    '7 openat(AT_FDCWD</w>, "out/../x", O_WRONLY|O_CREAT, 0600) = 20',
    '7 mkdir("/root/.cache", 0777) = 0',
    '7 rename("/w/out/a", "/w/a") = 0',
  ])
    assert.ok(offends(line), line);
  for (const line of [
    '7 socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 20',
    '7 connect(20<UNIX>, {sa_family=AF_UNIX, sun_path="/t/tsx-0/1.pipe"}, 110) = -1 ENOENT',
    '7 openat(AT_FDCWD</w>, "/etc/hostname", O_RDONLY) = 20',
    '7 openat(AT_FDCWD</w>, "out/x.csv", O_WRONLY|O_CREAT, 0666) = 20',
    '7 openat(AT_FDCWD</w>, "/dev/null", O_RDWR) = 20',
    '7 rename("/w/out/a", "/w/out/b") = 0',
    '7 rename("out/a", "out/b") = 0',
    '7 mkdir("/w/out", 0777) = 0',
    '7 +++ exited with 0 +++',
  ])
    assert.not(offends(line), line);
});

test.run();
