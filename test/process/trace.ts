/**
 * Runs the command line in a process of its own and finds out what it wrote and whom it called: under a system-call
 * trace (strace), or, where tracing is not allowed, in a network namespace without routes.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const works = (command: string, args: readonly string[]): boolean =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0;

const CALLS = [
  ...['socket', 'connect', 'bind', 'sendto', 'sendmsg', 'sendmmsg', 'io_uring_setup'],
  ...['open', 'openat', 'openat2', 'creat', 'truncate', 'mkdir', 'mkdirat', 'mknod', 'mknodat'],
  ...['rename', 'renameat', 'renameat2', 'link', 'linkat', 'symlink', 'symlinkat'],
];

/** How processes can be watched here; null where they cannot. */
export const watcher: 'trace' | 'namespace' | null = works('strace', ['-f', '-o', '/dev/null', 'true'])
  ? 'trace'
  : works('unshare', ['--net', '--map-root-user', 'true'])
    ? 'namespace'
    : null;

export interface Watched {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** What the process did that it should not: system calls, or files left. Empty is good. */
  readonly offences: readonly string[];
}

/**
 * Runs `node ...words` with a home, a temporary and a working directory of its own and an environment that holds
 * nothing else but a path and `environment`: a library that is silent under CI is not silent here.
 * @param allowed what the paths of files may begin with, seen from the working directory
 */
export function watch(
  words: readonly string[],
  allowed: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Watched {
  const base = mkdtempSync(join(tmpdir(), 'yoco-watched-'));
  const at = (name: string): string => join(base, name);
  for (const name of ['home', 'tmp', 'work']) mkdirSync(at(name));
  // tsx, which runs the sources of this suite, keeps what it has compiled.
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith('tsx-')))
    symlinkSync(join(tmpdir(), name), at(`tmp/${name}`));
  const { PATH } = process.env;
  // Without SHELL oclif asks the account database (by way of nscd, where that runs) for the person's shell.
  const fixed = { PATH, SHELL: '/bin/sh', HOME: at('home'), TMPDIR: at('tmp'), UV_USE_IO_URING: '0' };
  const env = { ...fixed, ...environment };
  const command = [process.execPath, ...words];
  const trace = [
    'strace',
    '-f',
    '--seccomp-bpf',
    '-qq',
    '-y',
    '-s',
    '4096',
    '-e',
    `trace=${CALLS.join(',')}`,
    '-o',
    at('trace'),
  ];
  const isolate = ['unshare', '--net', '--map-root-user'];
  const [program = '', ...args] = [...(watcher === 'trace' ? trace : isolate), ...command];
  try {
    const { status, stdout, stderr } = spawnSync(program, args, { cwd: at('work'), env, encoding: 'utf8' });
    const writable = [...allowed.map((path) => resolve(at('work'), path)), at('tmp/tsx-')];
    const offences =
      watcher === 'trace'
        ? readFileSync(at('trace'), 'utf8')
            .split('\n')
            .filter((line) => isOffence(line, writable, at('work')))
        : filesBelow(base).filter((path) => !writable.some((folder) => path.startsWith(folder)));
    return { status, stdout, stderr, offences };
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name));

/** What a resolver of names reads, besides the sockets it opens. */
const RESOLVER_FILES = ['/etc/resolv.conf', '/etc/hosts'];
const DEVICES = ['/dev/null', '/dev/tty'];

/**
 * Is this line of a trace a call to the network, a look-up of a name, or a change outside of `writable`?
 * @param writable what paths may begin with
 * @param folder the working directory of the process
 */
export function isOffence(line: string, writable: readonly string[], folder: string): boolean {
  const call = /^\d+ +(\w+)\((.*)$/.exec(line);
  if (call === null) return false;
  const [, name = '', rest = ''] = call;
  const inside = (path: string): boolean => writable.some((folder) => path.startsWith(folder));
  if (name === 'io_uring_setup') return !rest.includes('= -1');
  if (name === 'socket') return !/^AF_(UNIX|LOCAL),/.test(rest);
  if (['connect', 'bind', 'sendto', 'sendmsg', 'sendmmsg'].includes(name)) {
    if (/sa_family=AF_(?!UNIX)/.test(rest)) return true;
    const path = /sun_path=@?"([^"]*)"/.exec(rest)?.[1];
    return path !== undefined && !inside(path);
  }
  const paths = namedPaths(rest, folder);
  if (!['open', 'openat', 'openat2'].includes(name)) return !paths.every(inside);
  if (paths.some((path) => RESOLVER_FILES.includes(path))) return true;
  if (!/O_WRONLY|O_RDWR|O_CREAT|O_TRUNC/.test(rest)) return false;
  return !paths.every((path) => inside(path) || DEVICES.includes(path));
}

/** The paths in the arguments of a call, each taken from the directory that `-y` writes before it, if it does. */
function namedPaths(rest: string, workingDirectory: string): string[] {
  const names = rest.matchAll(/(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"/g);
  return [...names].map(([, folder, path = '']) => resolve(folder ?? workingDirectory, path));
}
