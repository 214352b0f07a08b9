import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Row } from '../../src/results/schema.js';
import { runCli } from '../cli/run.js';
import { onnxruntimeDirectory } from '../../src/engines/cpu/library.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('profile commands');
let directory = '';
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-profile-'));
});
test.after.each(() => {
  rmSync(directory, { recursive: true, force: true });
});
test.after(usePlainBackend);

const common = (out = directory): string[] => [
  '--preset',
  'pico',
  '--engine',
  'cpu',
  '--threads',
  '1',
  '--quiet',
  '--out',
  out,
];
const text = (name: string): string => readFileSync(join(directory, name), 'utf8');
const json = async (...argv: string[]): Promise<Row[]> => {
  const { stdout, stderr, exitCode } = await runCli(...argv, '--format', 'json');
  assert.is(exitCode, 0, stderr);
  return JSON.parse(stdout) as Row[];
};

function hasNativeKernels(): boolean {
  try {
    return existsSync(onnxruntimeDirectory());
  } catch {
    return false;
  }
}

test('measured memory is what the formulas say', async () => {
  const rows = await json(
    'profile-memory',
    ...common(),
    '--arch',
    'yoco,transformer',
    '--ctx',
    '128,256,1m',
    '--chunk',
    '128',
  );
  assert.is(rows.length, 6);
  for (const row of rows) {
    if (row.context === 1048576) {
      assert.is(row.measured_peak_bytes, null);
      continue;
    }
    assert.is(row.measured_weights_bytes, row.weights_bytes);
    assert.is(row.measured_state_bytes, row.state_bytes);
    assert.equal([row.reserved_peak_bytes, row.device_used_bytes], [null, null], 'no device, nothing to ask');
    const share = Number(row.measured_peak_bytes) / Number(row.total_bytes);
    // Without its native kernels the engine composes attention of smaller steps, whose tensors the formula does not count.
    assert.ok(share > 0.9 && share < (hasNativeKernels() ? 1.2 : 2), `${share}`);
  }
  assert.match(text('profile-memory-ratio.csv'), /^model,transformer,self_decoder,context,kv_cache_ratio,/);
});

test('memory in three parts: each adds up to its total, measured where the context was', async () => {
  const argv = ['profile-memory', ...common(), '--ctx', '128,1k', '--chunk', '128', '--measure-up-to', '128'];
  await json(...argv);
  const [head = '', ...lines] = text('profile-memory-breakdown.csv').trim().split('\n');
  const at = (line: string, name: string): string => line.split(',')[head.split(',').indexOf(name)] ?? '';
  assert.is(lines.length, 2);
  const sum = (line: string, prefix: string): number =>
    ['weights', 'kv_cache', 'other'].reduce(
      (all, part) => all + Number(at(line, `${prefix}${part}_bytes`)),
      0,
    );
  for (const line of lines) assert.is(sum(line, ''), Number(at(line, 'total_bytes')));
  const [measured = '', computed = ''] = lines;
  assert.is(sum(measured, 'measured_'), Number(at(measured, 'measured_peak_bytes')));
  assert.ok(Number(at(measured, 'measured_other_bytes')) > 0);
  assert.is(at(computed, 'measured_other_bytes'), '');
});

test('--kv-dtype changes keys and values only; --chunk-logits the Transformer only, and is computed only', async () => {
  const argv = ['profile-memory', '--analytic', ...common(), '--arch', 'yoco,transformer', '--ctx', '4k'];
  const rows = await json(...argv);
  const small = await json(...argv, '--kv-dtype', 'int4', '--no-resume');
  const logits = await json(...argv, '--chunk-logits', '--chunk', '4k', '--no-resume');
  rows.forEach((row, i) => {
    const share = Number(small[i]?.kv_cache_bytes) / Number(row.kv_cache_bytes);
    assert.ok(share > 0.25 && share < 0.4, `int4 takes ${share} of bfloat16`);
    assert.is(small[i]?.weights_bytes, row.weights_bytes);
  });
  assert.is(logits[0]?.activation_bytes, rows[0]?.activation_bytes);
  assert.ok(Number(logits[1]?.activation_bytes) >= Number(rows[1]?.activation_bytes));
  const { stderr, exitCode } = await runCli('profile-memory', ...common(), '--ctx', '64', '--chunk-logits');
  assert.match(stderr, /--analytic/);
  assert.is(exitCode, 2);
});

test('prefill is timed at every context, with and without early exit, and resumes without measuring again', async () => {
  const argv = ['profile-prefill', ...common(), '--ctx', '64,128', '--chunk', '64', '--repetitions', '2'];
  const rows = await json(...argv);
  assert.equal(
    rows.map((row) => [row.early_exit, row.context]),
    [
      [true, 64],
      [true, 128],
      [false, 64],
      [false, 128],
    ],
  );
  for (const row of rows) {
    assert.ok(Number(row.seconds_min) <= Number(row.seconds_median));
    assert.ok(Number(row.seconds_median) <= Number(row.seconds_max));
    const rate = Number(row.context) / Number(row.seconds_median);
    assert.ok(Math.abs(Number(row.tokens_per_second) / rate - 1) < 0.01);
  }
  assert.ok(Number(rows[2]?.prefill_flops) > Number(rows[0]?.prefill_flops));
  const timings = text('profile-prefill.timings.csv');
  await json(...argv);
  assert.is(text('profile-prefill.timings.csv'), timings);
  assert.is(text('profile-prefill-growth.timings.csv').split('\n').length, 4);
  assert.not.ok(
    existsSync(join(directory, 'profile-prefill-ratio.timings.csv')),
    'no Transformer, no ratios',
  );
});

test('a sampled prefill computes some chunks and records how many', async () => {
  const argv = ['profile-prefill', ...common(), '--ctx', '64,1k', '--chunk', '64', '--repetitions', '2'];
  for (const models of [
    ['--arch', 'yoco,transformer'],
    ['--self-decoder', 'sliding-window'],
  ]) {
    const rows = await json(...argv, '--early-exit', 'on', '--sample-chunks', '3', ...models);
    for (const row of rows) {
      assert.is(row.prefilled_tokens, row.context === 64 ? 64 : 3 * 64);
      assert.ok(Number(row.seconds_median) > 0);
      assert.is(row.peak_bytes, null);
    }
  }
});

test('decoding continues after each context of the sweep, whatever its order', async () => {
  const rows = await json(
    'profile-throughput',
    ...common(),
    '--ctx',
    '128,64',
    '--tokens',
    '2',
    '--warmup',
    '1',
  );
  assert.equal(
    rows.map(({ context }) => context),
    [64, 128],
  );
  assert.ok(Number(rows[1]?.bytes_read) > Number(rows[0]?.bytes_read));
  assert.ok(rows.every((row) => Number(row.tokens_per_second) > 0));
});

test('end to end: generated tokens over the whole time, at every batch; samples are called estimates', async () => {
  const argv = ['profile-throughput', '--phase', 'end-to-end', ...common(), '--arch', 'yoco,transformer'];
  const rows = await json(...argv, '--ctx', '64', '--generate', '4', '--batch', '1,2');
  assert.equal(
    rows.map(({ architecture, batch, sequences }) => [architecture, batch, sequences]),
    [
      ['yoco', 1, 1],
      ['yoco', 2, 2],
      ['transformer', 1, 1],
      ['transformer', 2, 2],
    ],
  );
  for (const row of rows) {
    assert.equal([row.prompt_tokens, row.generated_tokens, row.estimated], [60, 4, false]);
    const rate = (4 * Number(row.sequences)) / Number(row.seconds_median);
    assert.ok(Math.abs(Number(row.tokens_per_second) / rate - 1) < 0.01);
  }
  assert.match(
    text('profile-throughput-end-to-end-ratio.timings.csv'),
    /^model,transformer,self_decoder,context,batch,throughput_ratio/,
  );
  const sampled = await runCli(...argv, '--ctx', '128', '--generate', '8', '--sample-steps', '2');
  assert.is(sampled.exitCode, 0, sampled.stderr);
});

test('flags of the other phase are refused with the phase they are for', async () => {
  const cases: [string[], RegExp][] = [
    [['--batch', 'auto'], /^yoco: --batch is for --phase end-to-end/],
    [['--generate', '8'], /^yoco: --generate is for --phase end-to-end/],
    [['--phase', 'end-to-end', '--tokens', '8'], /^yoco: --tokens is for --phase decode/],
    [['--phase', 'end-to-end', '--fill-cache'], /^yoco: --fill-cache is for --phase decode/],
    [['--phase', 'end-to-end', '--batch', '1,none'], /'none' is not a number of sequences/],
    [['--phase', 'end-to-end', '--ctx', '64', '--generate', '64'], /64 generated tokens leave no prompt/],
  ];
  for (const [argv, line] of cases) {
    const { stderr, exitCode } = await runCli('profile-throughput', ...common(), ...argv);
    assert.match(stderr, line);
    assert.is(exitCode, 2, stderr);
  }
});

test('a filled cache takes the memory of a computed one, and is decoded after', async () => {
  const models = ['--arch', 'yoco,transformer', '--ctx', '512,1k', '--fill-cache'];
  const argv = ['profile-memory', ...common(), '--chunk', '256', ...models];
  const filled = await json(...argv);
  const computed = await json(...argv.slice(0, -1));
  assert.is(filled.length, 4);
  filled.forEach((row, i) => {
    const expected = computed[i] ?? {};
    assert.is(row.measured_kv_cache_bytes, expected.measured_kv_cache_bytes);
    assert.is(row.measured_state_bytes, expected.measured_state_bytes);
    // The tokens of the last chunk are there twice.
    assert.is(Number(row.measured_peak_bytes) - Number(expected.measured_peak_bytes), 4 * 256);
  });
  assert.ok(filled.every(({ prefilled_tokens: tokens }) => tokens === 256));
  assert.ok(computed.every(({ prefilled_tokens: tokens, context }) => tokens === context));

  // The default chunks are longer than these contexts' steps: then every token is computed.
  const decoded = await json('profile-throughput', ...common(), '--tokens', '2', '--warmup', '1', ...models);
  assert.equal(decoded.map(({ prefilled_tokens: tokens }) => tokens), [512, 1024, 512, 1024]); // prettier-ignore
  for (const { bytes_per_second: rate, copy_bytes_per_second: copy, copy_share: share } of decoded) {
    assert.ok(Math.abs(Number(rate) / Number(copy) - Number(share)) < 1e-3);
  }
});

test('a context beyond memory is a row that tells why; the sweep continues and the exit status is 1', async () => {
  const { stdout, stderr, exitCode } = await runCli(
    'profile-prefill',
    ...common(),
    ...[
      '--ctx',
      '1048576m,64',
      '--chunk',
      '64',
      '--repetitions',
      '1',
      '--early-exit',
      'on',
      '--format',
      'csv',
    ],
  );
  assert.is(exitCode, 1);
  assert.match(stderr, /1 of the cells failed/);
  assert.match(
    stdout,
    /error,"context 1048576m of pico yoco \(gated-retention\) needs \d+ bytes .* available are \d+ bytes/,
  );
  assert.match(stdout, /pico,yoco,gated-retention,true,64,\d+,.*,ok,/);
});

test('--check reads its file before the run replaces it, and refuses another table before the work', async () => {
  const argv = ['profile-memory', '--analytic', '--ctx', '1k', ...common()];
  assert.is((await runCli(...argv)).exitCode, 0);
  const file = join(directory, 'profile-memory.csv');
  const table = text('profile-memory.csv');
  const [head = '', row = ''] = table.split('\n');
  const at = head.split(',').indexOf('kv_cache_bytes');
  const cells = row.split(',').map((cell, i) => (i === at ? '1' : cell));
  writeFileSync(file, `${head}\n${cells.join(',')}\n`);
  const report = join(directory, 'reports', 'junit.xml');
  const check = ['--no-resume', '--check', file, '--check-report', report];
  const worse = await runCli(...argv, ...check);
  assert.match(worse.stderr, /kv_cache_bytes \d+, was 1\b/);
  assert.is(worse.exitCode, 1);
  assert.is(text('profile-memory.csv'), table, 'the run replaced it');
  assert.match(readFileSync(report, 'utf8'), /failures="1"[^]*<failure [^]*kv_cache_bytes/);
  const other = join(directory, 'other.csv');
  writeFileSync(other, 'a,b\n1,2\n');
  const out = join(directory, 'untouched');
  const refused = await runCli('profile-memory', '--analytic', ...common(out), '--check', other);
  assert.match(refused.stderr, /other\.csv is no table of profile-memory/);
  assert.not.ok(existsSync(out));
});

test('--check names the rows that regressed', async () => {
  const argv = (out: string): string[] => ['profile-memory', ...common(out), '--ctx', '64', '--analytic'];
  await runCli(...argv(directory));
  const check = ['--check', join(directory, 'profile-memory.csv')];
  const same = await runCli(...argv(join(directory, 'a')), ...check);
  assert.is(same.exitCode, 0, same.stderr);
  const other = await runCli(
    ...argv(join(directory, 'b')),
    ...check,
    '--dtype',
    'float32',
    '--tolerance',
    '50',
  );
  assert.is(other.exitCode, 1);
  assert.match(other.stderr, /regression: .*context=64: weights_bytes \d+, was \d+ \(100\.0 % worse\)/);
});

test('layouts by name and by their parts, each a row of its own', async () => {
  const layouts = 'transformer,retnet,unstacked-yoco,2*(retention attention),6*retention memory 2*cross';
  const { stdout, exitCode } = await runCli(
    ...['profile-memory', '--analytic', '--preset', 'tiny', '--ctx', '1k', '--format', 'csv'],
    ...['--layout', layouts, '--self-decoder', 'retention', '--out', directory],
  );
  assert.is(exitCode, 0);
  const rows = stdout.trim().split('\n').slice(1);
  assert.equal(
    rows.map((row) => row.split(',').slice(0, 3).join()),
    [
      'tiny,transformer,',
      'tiny,retnet,',
      'tiny,unstacked-yoco,retention',
      'tiny,2*(retention attention),',
      'tiny,6*retention memory 2*cross,',
    ],
  );
});

test('bad input is one line and exit status 2', async () => {
  const cases: [string[], RegExp][] = [
    [['--ctx', '12q'], /^yoco: --ctx: '12q' is not a number of tokens/],
    [['--ctx', '0'], /'0' is not a number of tokens/],
    [['--ctx', '-5'], /'-5' is not a number of tokens/],
    [['--preset', 'huge'], /unknown preset 'huge': the presets are pico, nano/],
    [['--preset', 'yoco-3b', '--arch', 'transformer'], /preset 'yoco-3b' has no architecture 'transformer'/],
    [['--engine', 'abacus'], /--engine=abacus to be one of: auto, cpu, cuda, webgpu, tensorflow/],
    [['--arch', 'mamba'], /--arch=mamba to be one of: yoco, transformer, gqa, mqa/],
    [['--preset', 'nano', '--arch', 'yoco,cla3'], /layers must be a multiple of 3 for 'cla3', found 8/],
    [['--config', 'absent.json'], /the configuration: cannot read absent\.json: no such file/],
    [['--kv-dtype', 'int3'], /--kv-dtype=int3 to be one of: float32, bfloat16, float16, float8, int8, int4/],
    [['--tolerance', '5'], /--check/],
    [['--seed', '-1'], /--seed/],
    [
      ['--arch', 'transformer', '--self-decoder', 'sliding-window'],
      /self-decoder .* is for architecture yoco/,
    ],
    [['--config', 'a.json', '--self-decoder', 'sliding-window'], /--self-decoder with --preset/],
    [['--layout', '4*mamba'], /layout '4\*mamba': expected one of gated-retention, .*, found 'mamba'/],
    [['--layout', 'cla', '--arch', 'yoco'], /--layout/],
    [['--layout', 'gretnet', '--self-decoder', 'retention'], /layouts that leave it open; .* as gretnet/],
    [['surplus'], /Unexpected argument: surplus/],
  ];
  for (const [argv, line] of cases) {
    const { stderr, exitCode } = await runCli('profile-memory', '--analytic', '--out', directory, ...argv);
    assert.match(stderr, line);
    assert.is(stderr.trimEnd().split('\n').length, 1, stderr);
    assert.is(exitCode, 2, stderr);
  }
});

test.run();
