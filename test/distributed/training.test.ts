/** Training as several MPI processes: the same losses as by one, and snapshots that any number of ranks takes up. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { program, YOCO } from '../cli/program.js';
import { runCli } from '../cli/run.js';
import { asRank, mpirun, mpiTest } from './mpirun.js';

const test = suite('distributed: training');
let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-ranks-'));
});
test.after(() => {
  rmSync(directory, { recursive: true, force: true });
});

const command = (out: string, { steps = 4, batch = 4 } = {}): string[] => [
  ...['train', '--engine', 'cpu', '--threads', '1', '--preset', 'pico', '--data', 'moby-dick'],
  ...[
    '--batch',
    `${batch}`,
    '--length',
    '32',
    '--steps',
    `${steps}`,
    '--eval-every',
    '2',
    '--eval-tokens',
    '256',
  ],
  ...['--checkpoint-every', '2', '--quiet', '--out', join(directory, out)],
];

/** Rows of train.csv as numbers; empty cells are 0. */
function rows(out: string): number[][] {
  const [, ...lines] = readFileSync(join(directory, out, 'train.csv'), 'utf8')
    .trim()
    .split('\n');
  return lines.map((line) => line.split(',').slice(0, 8).map(Number));
}

function assertSameRows(found: number[][], expected: number[][]): void {
  assert.is(found.length, expected.length);
  found.forEach((row, i) => {
    row.forEach((value, j) => {
      const other = expected[i]?.[j] ?? NaN;
      assert.ok(
        Math.abs(value - other) <= 1e-5 * Math.max(1, Math.abs(other)),
        `row ${i}: ${value} ${other}`,
      );
    });
  });
}

mpiTest(test, 'two ranks learn what one learns, and four resume what two have left', async () => {
  const { exitCode, stderr } = await runCli(...command('one'));
  assert.is(exitCode, 0, stderr);
  const two = await mpirun(2, [...YOCO, ...command('two')]);
  assert.is(two.code, 0, two.stderr);
  assertSameRows(rows('two'), rows('one'));
  const description = JSON.parse(readFileSync(join(directory, 'two', 'train.run.json'), 'utf8')) as {
    ranks: { devices: string[] };
  };
  assert.is(description.ranks.devices.length, 2);

  // As if the run of two had been killed after its first snapshot.
  cpSync(join(directory, 'two'), join(directory, 'left'), { recursive: true });
  const checkpoints = join(directory, 'left', 'checkpoints');
  assert.equal(readdirSync(checkpoints).sort(), ['step-00000002', 'step-00000004']);
  rmSync(join(checkpoints, 'step-00000004'), { recursive: true });
  const four = await mpirun(4, [...YOCO, ...command('left')]);
  assert.is(four.code, 0, four.stderr);
  assertSameRows(rows('left'), rows('one'));
});

mpiTest(test, 'a batch that cannot be dealt out evenly is refused', async () => {
  const { code, stderr } = await mpirun(2, [...YOCO, ...command('uneven', { batch: 3 })]);
  assert.is(code, 2);
  assert.match(stderr, /a batch of 3 sequences cannot be dealt out to 2 ranks evenly: use a multiple of 2/);
});

test('one process that is to divide sequences is told how to start the others', async () => {
  const { exitCode, stderr } = await runCli(...command('alone'), '--context-parallel', '2');
  assert.is(exitCode, 2);
  assert.match(stderr, /--context-parallel 2 divides .* this one is alone: yoco launch --ranks 2 -- COMMAND/);
});

test('a command for one process is refused as several', async () => {
  const { exitCode, stderr } = await asRank(1, 2, () =>
    runCli('profile-memory', '--analytic', '--ctx', '1k'),
  );
  assert.is(exitCode, 2);
  assert.match(stderr, /profile-memory runs as one process, but open-mpi started 2/);
});

/** mpirun returns before the process that holds the lock has quite ended. */
async function lockLeft(out: string): Promise<void> {
  const file = join(directory, out, 'train.lock');
  if (!existsSync(file)) return;
  const { pid } = JSON.parse(readFileSync(file, 'utf8')) as { pid: number };
  while (existsSync(`/proc/${pid}`)) await setImmediate();
}

mpiTest(test, 'a rank that dies ends the others, and leaves a run to resume', async () => {
  const dying = fileURLToPath(new URL('dying-rank.ts', import.meta.url));
  const snapshot = join(directory, 'killed', 'checkpoints', 'step-00000002');
  const words = [...(await program(dying)), snapshot, ...command('killed', { steps: 8 })];
  const killed = await mpirun(2, words);
  assert.is.not(killed.code, 0);
  assert.match(killed.stdout + killed.stderr, /rank 1 .*signal 9/s);
  await lockLeft('killed');
  const { exitCode, stderr } = await runCli(...command('killed', { steps: 8 }));
  assert.is(exitCode, 0, stderr);
});

test.run();
