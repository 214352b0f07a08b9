import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { YOCO } from '../cli/program.js';
import { runCli } from '../cli/run.js';
import { mpirun, mpiTest } from './mpirun.js';
import { MpirunRemarks } from '../../src/distributed/mpirun-remarks.js';
import { launchRanks, type LaunchResult, type Transport } from '../../src/distributed/launch.js';

const test = suite('distributed: launch');

interface Seen extends LaunchResult {
  readonly stdout: string;
  readonly lines: readonly string[];
}

interface Ways {
  readonly transport?: Transport;
  readonly grace?: number;
  /** Sees all that is written, as it comes. */
  readonly onText?: (text: string) => void;
}

/** Runs a script as several ranks. */
async function launch(
  ranks: number,
  script: string,
  { transport = 'nccl', grace = 5000, onText }: Ways = {},
): Promise<Seen> {
  const lines: string[] = [];
  let stdout = '';
  const result = await launchRanks({
    ranks,
    transport,
    command: [process.execPath, '-e', script],
    environment: process.env,
    graceMilliseconds: grace,
    onOutput: (piece) => {
      const text = Buffer.from(piece).toString();
      stdout += text;
      onText?.(text);
    },
    onLine: (line) => {
      lines.push(line);
      onText?.(line);
    },
  });
  return { ...result, stdout, lines: lines.sort() };
}

/** Acts once so many ranks have said that they are ready. */
function whenReady(ranks: number, act: () => void): (text: string) => void {
  let waiting = ranks;
  return (text) => {
    const before = waiting;
    waiting -= text.split('ready').length - 1;
    if (before > 0 && waiting <= 0) act();
  };
}

const STAY = 'setInterval(() => {}, 1000);';

test('every rank knows its place, and its lines are marked', async () => {
  const { exitCode, stdout, lines } = await launch(
    3,
    `const { RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT } = process.env;
     console.log([RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, Number(MASTER_PORT) > 0].join());
     if (RANK === '1') process.stderr.write('no line end');`,
  );
  assert.is(exitCode, 0);
  assert.is(stdout, '0,0,3,127.0.0.1,true\n');
  assert.equal(lines, [
    '[rank 1] 1,1,3,127.0.0.1,true',
    '[rank 1] no line end',
    '[rank 2] 2,2,3,127.0.0.1,true',
  ]);
});

test('the first failure ends all, and its status is passed on', async () => {
  const failed = await launch(3, `if (process.env.RANK === '1') process.exit(7); ${STAY}`);
  assert.equal([failed.exitCode, failed.failedRank], [7, 1]);
  const killed = await launch(
    2,
    `if (process.env.RANK === '0') process.kill(process.pid, 'SIGKILL'); ${STAY}`,
  );
  assert.equal([killed.exitCode, killed.failedRank], [137, 0]);
});

test('a rank that does not end by SIGTERM is killed', async () => {
  const deaf = `process.on('SIGTERM', () => {}); console.log('deaf'); ${STAY}`;
  const waiting = `process.stdin; setTimeout(() => process.exit(3), 300);`;
  const { exitCode } = await launch(2, `if (process.env.RANK === '0') { ${deaf} } else { ${waiting} }`, {
    grace: 50,
  });
  assert.is(exitCode, 3);
});

test('signals reach every rank', async () => {
  const { exitCode, stdout, lines } = await launch(
    2,
    `process.on('SIGTERM', () => { console.log('told'); process.exit(0); }); console.log('ready'); ${STAY}`,
    {
      onText: whenReady(2, () => process.emit('SIGTERM', 'SIGTERM')),
    },
  );
  assert.is(exitCode, 0);
  assert.is(stdout, 'ready\ntold\n');
  assert.equal(lines, ['[rank 1] ready', '[rank 1] told']);
});

test('ranks that were asked to stop may save when the first of them has ended', async () => {
  const { exitCode, stdout, signal } = await launch(
    2,
    `const saved = () => { console.log('saved'); process.exit(130); };
     const stop = process.env.RANK === '0' ? () => setTimeout(saved, 200) : () => process.exit(130);
     process.once('SIGTERM', stop); console.log('ready'); ${STAY}`,
    {
      grace: 50,
      onText: whenReady(2, () => process.emit('SIGTERM', 'SIGTERM')),
    },
  );
  assert.equal([exitCode, stdout, signal], [130, 'ready\nsaved\n', 'SIGTERM']);
});

mpiTest(test, 'Ctrl-C asks ranks under mpirun to stop, and they may save', async () => {
  const { exitCode, stdout, lines } = await launch(
    2,
    `process.once('SIGUSR2', () => { console.log('saved'); process.exit(130); }); console.log('ready'); ${STAY}`,
    {
      transport: 'mpi',
      onText: whenReady(2, () => process.emit('SIGINT', 'SIGINT')),
    },
  );
  assert.is(exitCode, 130);
  assert.is(stdout.match(/saved/g)?.length, 2, stdout);
  assert.equal(lines, []);
});

mpiTest(test, 'ranks under mpirun do not have the rank of a container', async () => {
  process.env.WORLD_SIZE = '1';
  try {
    const { stdout } = await launch(1, 'console.log(String(process.env.WORLD_SIZE))', { transport: 'mpi' });
    assert.is(stdout, 'undefined\n');
  } finally {
    delete process.env.WORLD_SIZE;
  }
});

mpiTest(test, 'a rank under mpirun that is killed is named', async () => {
  const { exitCode, failedRank, lines } = await launch(
    3,
    `if (process.env.OMPI_COMM_WORLD_RANK === '1') process.kill(process.pid, 'SIGKILL'); ${STAY}`,
    { transport: 'mpi' },
  );
  assert.equal([exitCode, failedRank], [137, 1]);
  assert.equal(lines, []);
});

test('what mpirun says of other things is passed on, of how ranks ended it is kept back', () => {
  const border = '-'.repeat(74);
  const ended = [
    border,
    'mpirun noticed that process rank 3 with PID 0 on node a exited on signal 9 (Killed).',
    border,
  ];
  const slots = [border, 'There are not enough slots available in the system.', border];
  const cutOff = [border, 'half a paragraph'];
  const passed: string[] = [];
  const remarks = new MpirunRemarks((line) => passed.push(line));
  for (const line of ['[rank 0] first', ...slots, ...ended, '[rank 0] last', ...cutOff]) remarks.take(line);
  remarks.end();
  assert.is(remarks.failedRank, 3);
  assert.equal(passed, ['[rank 0] first', ...slots, '[rank 0] last', ...cutOff]);
});

test('a command without -- before it is told so', async () => {
  const { exitCode, stderr } = await runCli('launch', '--ranks', '2', 'train', '--engine', 'cpu');
  assert.is(exitCode, 2);
  assert.match(stderr, /write -- before the command: yoco launch --ranks 4 -- train …/);
});

test('a program that is not there is one line', async () => {
  try {
    await launchRanks({
      ranks: 1,
      transport: 'nccl',
      command: ['no-such-program'],
      environment: process.env,
      onOutput: () => undefined,
      onLine: () => undefined,
    });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /no-such-program cannot be started: it is not installed/);
  }
});

mpiTest(test, 'what a rank writes without a line end goes through mpirun as it is', async () => {
  const { exitCode, stdout, lines } = await launch(
    1,
    `for (let piece = 0; piece < 20; piece++) process.stdout.write(piece + ' ä');
     process.stdout.write('x'.repeat(100000) + '\\n');`,
    { transport: 'mpi' },
  );
  assert.is(exitCode, 0);
  assert.equal(lines, []);
  const pieces = Array.from({ length: 20 }, (_, piece) => `${piece} ä`);
  assert.ok(stdout === `${pieces.join('')}${'x'.repeat(100000)}\n`, stdout.slice(0, 200));
});

mpiTest(test, 'every rank marks its lines, and mpirun says nothing of its own', async () => {
  const argv = ['launch', '--ranks', '2', '--', 'report', 'x', '--engine', 'cpu'];
  const { exitCode, stderr } = await runCli(...argv);
  assert.is(exitCode, 2);
  const lines = stderr.trimEnd().split('\n');
  assert.ok(lines.length > 1, stderr);
  assert.match(lines.pop() ?? '', /^yoco: rank [01] failed with exit status 2; the others were ended$/);
  for (const line of lines)
    assert.match(line, /^\[rank [01]\] yoco: report runs as one process, but open-mpi/);
});

mpiTest(test, 'the terminal that mpirun makes neither colors tables nor narrows them', async () => {
  const { stdout } = await mpirun(1, [...YOCO, 'data', 'list']);
  const { stdout: alone } = await runCli('data', 'list');
  assert.is(stdout, alone);
});

test.run();
