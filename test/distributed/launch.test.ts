import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { launchRanks, type LaunchResult } from '../../src/distributed/launch.js';

const test = suite('distributed: launch');

interface Seen extends LaunchResult {
  readonly lines: readonly string[];
}

/** Runs a script as several ranks; `onLine` sees each line as it comes. */
async function launch(
  ranks: number,
  script: string,
  { onLine, grace = 5000 }: { onLine?: (line: string) => void; grace?: number } = {},
): Promise<Seen> {
  const lines: string[] = [];
  const result = await launchRanks({
    ranks,
    transport: 'nccl',
    command: [process.execPath, '-e', script],
    environment: process.env,
    graceMilliseconds: grace,
    onLine: (line, rank, stream) => {
      lines.push(`${rank} ${stream} ${line}`);
      onLine?.(line);
    },
  });
  return { ...result, lines: lines.sort() };
}

const STAY = 'setInterval(() => {}, 1000);';

test('every rank knows its place, and its lines are marked', async () => {
  const { exitCode, lines } = await launch(
    3,
    `const { RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT } = process.env;
     console.log([RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, Number(MASTER_PORT) > 0].join());
     if (RANK === '1') process.stderr.write('no line end');`,
  );
  assert.is(exitCode, 0);
  assert.equal(lines, [
    '0 stdout 0,0,3,127.0.0.1,true',
    '1 stderr no line end',
    '1 stdout 1,1,3,127.0.0.1,true',
    '2 stdout 2,2,3,127.0.0.1,true',
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
  let ready = 0;
  const { exitCode, lines } = await launch(
    2,
    `process.on('SIGTERM', () => { console.log('told'); process.exit(0); }); console.log('ready'); ${STAY}`,
    {
      onLine: (line) => {
        if (line === 'ready' && ++ready === 2) process.emit('SIGTERM');
      },
    },
  );
  assert.is(exitCode, 0);
  assert.equal(
    lines.filter((line) => line.endsWith('told')),
    ['0 stdout told', '1 stdout told'],
  );
});

test('a program that is not there is one line', async () => {
  try {
    await launchRanks({
      ranks: 1,
      transport: 'nccl',
      command: ['no-such-program'],
      environment: process.env,
      onLine: () => undefined,
    });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /no-such-program cannot be started: it is not installed/);
  }
});

test.run();
