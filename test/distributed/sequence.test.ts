/** Sequences divided over MPI processes: reading, decoding, losses and gradients are those of one process. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { program, YOCO } from '../cli/program.js';
import { runCli } from '../cli/run.js';
import { asRank, mpirun, mpiTest } from './mpirun.js';

const test = suite('distributed: sequences');
const worker = fileURLToPath(new URL('sequence-worker.ts', import.meta.url));

/**
 * Layouts that talk in every way: states, windows, attention of all to all, keys that others read. Three ranks have one with a
 * neighbour on either side; four have parts in zigzag whose order is not that of two.
 */
const SIZES: readonly (readonly [size: number, names: readonly string[]])[] = [
  [2, ['window of one', 'unstacked yoco', 'cla3', 'custom', 'sambay', 'yoco, gated delta net']],
  [3, ['sliding window', 'interleaved']],
  [4, ['transformer']],
];

for (const [size, names] of SIZES) {
  mpiTest(test, `${size} ranks compute what one computes`, async () => {
    const { code, stdout, stderr } = await mpirun(size, [...(await program(worker)), 'plain', ...names]);
    assert.is(code, 0, stderr);
    assert.is(stdout.match(/: as one/g)?.length, size);
  });
}

let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-sequences-'));
});
test.after(() => {
  rmSync(directory, { recursive: true, force: true });
});

const needle = (out: string): string[] => [
  ...['needle', '--engine', 'cpu', '--threads', '1', '--ctx', '384', '--depths', '0,100', '--quiet'],
  ...['--out', join(directory, out)],
];

const lines = (out: string, file: string): string[] =>
  readFileSync(join(directory, out, file), 'utf8')
    .trim()
    .split('\n');

mpiTest(test, 'two ranks resume what one has left, and find the needle that one finds', async () => {
  const alone = await runCli(...needle('one'));
  assert.is(alone.exitCode, 0, alone.stderr);
  // As if the run of one process had been killed after its first prompt.
  cpSync(join(directory, 'one'), join(directory, 'two'), { recursive: true });
  for (const cells of ['needle.cells.jsonl', 'needle-trials.cells.jsonl']) {
    const [first] = lines('one', cells);
    writeFileSync(join(directory, 'two', cells), `${first}\n`);
  }
  rmSync(join(directory, 'two', 'needle.csv'));
  const two = await mpirun(2, [...YOCO, ...needle('two'), '--context-parallel', '2']);
  assert.is(two.code, 0, two.stderr);
  assert.equal(lines('two', 'needle.csv'), lines('one', 'needle.csv'));
});

const train = (out: string, ...flags: string[]): string[] => [
  ...['train', '--engine', 'cpu', '--threads', '1', '--preset', 'pico', '--data', 'moby-dick'],
  ...[
    '--batch',
    '2',
    '--length',
    '64',
    '--steps',
    '3',
    '--eval-every',
    '3',
    '--eval-tokens',
    '256',
    '--quiet',
  ],
  ...['--out', join(directory, out), ...flags],
];

mpiTest(test, 'two groups of two ranks learn what one process learns', async () => {
  const alone = await runCli(...train('whole'));
  assert.is(alone.exitCode, 0, alone.stderr);
  const four = await mpirun(4, [...YOCO, ...train('divided', '--context-parallel', '2')]);
  assert.is(four.code, 0, four.stderr);
  const numbers = (out: string): number[] =>
    lines(out, 'train.csv')
      .slice(1)
      .flatMap((line) => line.split(',').slice(0, 8).map(Number));
  const expected = numbers('whole');
  numbers('divided').forEach((value, i) => {
    const other = expected[i] ?? NaN;
    assert.ok(Math.abs(value - other) <= 1e-4 * Math.max(1, Math.abs(other)), `${i}: ${value} ${other}`);
  });
});

mpiTest(test, 'two ranks continue a text as one does', async () => {
  const prompt = 'It was a long night, the ship was far from land, and nobody on board spoke a word. '.repeat(
    2,
  );
  const generate = (...flags: string[]): string[] => [
    ...['generate', prompt, '--engine', 'cpu', '--threads', '1', '--preset', 'pico', '--quiet'],
    ...['--tokens', '12', '--temperature', '0.9', '--seed', '3', ...flags],
  ];
  const alone = await runCli(...generate());
  assert.is(alone.exitCode, 0, alone.stderr);
  const two = await mpirun(2, [...YOCO, ...generate('--context-parallel', '2')]);
  assert.is(two.code, 0, two.stderr);
  assert.is(two.stdout, alone.stdout);
});

test('ranks that are not to divide sequences are refused, and sequences without ranks', async () => {
  const two = await asRank(0, 2, () => runCli(...needle('refused')));
  assert.is(two.exitCode, 2);
  assert.match(
    two.stderr,
    /started 2 processes, which can only divide sequences here: give --context-parallel 2/,
  );
  const alone = await runCli(...needle('refused'), '--context-parallel', '2');
  assert.is(alone.exitCode, 2);
  assert.match(alone.stderr, /this one is alone: yoco launch --ranks 2/);
});

test.run();
