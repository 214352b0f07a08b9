/** Profiles of models whose sequences are divided over MPI processes. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { YOCO } from '../cli/program.js';
import { runCli } from '../cli/run.js';
import { mpirun, mpiTest } from './mpirun.js';

const test = suite('distributed: profiles');

let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-profiles-'));
});
test.after(() => {
  rmSync(directory, { recursive: true, force: true });
});

const SHARED = [
  '--engine',
  'cpu',
  '--threads',
  '1',
  '--preset',
  'pico',
  '--context-parallel',
  '2',
  '--quiet',
];

/** The values of a column. */
function column(file: string, name: string): string[] {
  const [header = '', ...lines] = readFileSync(join(directory, file), 'utf8').trim().split('\n');
  const at = header.split(',').indexOf(name);
  assert.ok(at >= 0, `${file} has ${name}`);
  return lines.map((line) => line.split(',')[at] ?? '');
}

mpiTest(test, 'memory is of one device, and every rank has a row', async () => {
  const measuring = [
    'profile-memory',
    '--measure-up-to',
    '24k',
    '--ctx',
    '24k',
    '--chunk',
    '256',
    '--fill-cache',
    ...SHARED,
  ];
  const { code, stderr } = await mpirun(2, [...YOCO, ...measuring, '--out', join(directory, 'memory')]);
  assert.is(code, 0, stderr);
  // 12,288 of 24,576 positions, 256 bytes each in float32; whole pages are allocated.
  const [computed] = column('memory/profile-memory.csv', 'kv_cache_bytes').map(Number);
  assert.is(computed, 12288 * 256);
  const [measured = 0] = column('memory/profile-memory.csv', 'measured_kv_cache_bytes').map(Number);
  assert.ok(measured >= 12288 * 256 && measured < 24576 * 256, String(measured));
  assert.equal(column('memory/profile-memory-ranks.csv', 'rank'), ['0', '1']);
  const { ranks } = JSON.parse(readFileSync(join(directory, 'memory/profile-memory.run.json'), 'utf8')) as {
    ranks: { devices: string[] };
  };
  assert.is(ranks.devices.length, 2);
});

mpiTest(test, 'prefill is timed from all ranks idle to all idle', async () => {
  const prefill = ['profile-prefill', '--ctx', '512', '--early-exit', 'on', '--repetitions', '2', ...SHARED];
  const { code, stderr } = await mpirun(2, [...YOCO, ...prefill, '--out', join(directory, 'prefill')]);
  assert.is(code, 0, stderr);
  const rows = column('prefill/profile-prefill-ranks.timings.csv', 'peak_bytes').map(Number);
  assert.is(rows.length, 2);
  assert.equal(column('prefill/profile-prefill.timings.csv', 'peak_bytes').map(Number), [Math.max(...rows)]);
  const [rate = NaN, product = NaN, share = NaN] = [
    'flops_per_second',
    'product_flops_per_second',
    'product_share',
  ]
    .map((name) => column('prefill/profile-prefill.timings.csv', name))
    .map(([value]) => Number(value));
  const products = column('prefill/profile-prefill-ranks.timings.csv', 'product_flops_per_second').map(
    Number,
  );
  assert.is(product, Math.max(...products));
  assert.ok(Math.abs(share - rate / (2 * product)) <= 0.0006, `${share} ${rate} ${product}`);
});

mpiTest(test, 'decoding has one row of all ranks, whose figures agree, and one of each', async () => {
  const decoding = ['profile-throughput', '--ctx', '256', '--tokens', '4', '--warmup', '1', ...SHARED];
  const { code, stderr } = await mpirun(2, [...YOCO, ...decoding, '--out', join(directory, 'decoding')]);
  assert.is(code, 0, stderr);
  assert.equal(column('decoding/profile-throughput-ranks.timings.csv', 'rank'), ['0', '1']);
  const [rate = NaN, copy = NaN, share = NaN] = ['bytes_per_second', 'copy_bytes_per_second', 'copy_share']
    .map((name) => column('decoding/profile-throughput.timings.csv', name))
    .map(([value]) => Number(value));
  assert.ok(Math.abs(share - rate / copy) <= 0.0006, `${share} ${rate} ${copy}`);
});

test('memory of several devices is computed in one process', async () => {
  const computed = ['profile-memory', '--preset', 'pico', '--ctx', '1k', '--analytic', '--quiet'];
  const bytesOn = async (devices: number): Promise<number> => {
    const out = `analytic-${devices}`;
    const { exitCode, stderr } = await runCli(
      ...[...computed, '--context-parallel', String(devices), '--out', join(directory, out)],
    );
    assert.is(exitCode, 0, stderr);
    return Number(column(`${out}/profile-memory.csv`, 'kv_cache_bytes')[0]);
  };
  assert.is(await bytesOn(4), (await bytesOn(1)) / 4);
});

test.run();
