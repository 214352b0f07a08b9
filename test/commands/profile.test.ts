import { existsSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runCli } from '../cli/run.js';
import { printedRows, profiling } from './profiling.js';

const test = suite('profile commands');
const { at, common, text } = profiling(test);

test('prefill is timed at every context, with and without early exit, and resumes without measuring again', async () => {
  const argv = ['profile-prefill', ...common(), '--ctx', '64,128', '--chunk', '64', '--repetitions', '2'];
  const rows = await printedRows(...argv);
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
    assert.ok(Number(row.product_flops_per_second) > 0 && Number(row.product_share) > 0);
  }
  assert.ok(Number(rows[2]?.prefill_flops) > Number(rows[0]?.prefill_flops));
  const timings = text('profile-prefill.timings.csv');
  await printedRows(...argv);
  assert.is(text('profile-prefill.timings.csv'), timings);
  assert.is(text('profile-prefill-growth.timings.csv').split('\n').length, 4);
  assert.not.ok(existsSync(at('profile-prefill-ratio.timings.csv')), 'no Transformer, no ratios');
});

test('a sampled prefill computes some chunks and records how many', async () => {
  const argv = ['profile-prefill', ...common(), '--ctx', '64,1k', '--chunk', '64', '--repetitions', '2'];
  for (const models of [
    ['--arch', 'yoco,transformer'],
    ['--self-decoder', 'sliding-window'],
  ]) {
    const rows = await printedRows(...argv, '--early-exit', 'on', '--sample-chunks', '3', ...models);
    for (const row of rows) {
      assert.is(row.prefilled_tokens, row.context === 64 ? 64 : 4 * 64);
      assert.ok(Number(row.seconds_median) > 0);
      assert.is(row.peak_bytes, null);
      assert.ok(Number(row.product_flops_per_second) > 0 && Number(row.product_share) > 0);
    }
  }
});

test('decoding continues after each context of the sweep, whatever its order', async () => {
  const rows = await printedRows(
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
  const rows = await printedRows(...argv, '--ctx', '64', '--generate', '4', '--batch', '1,2');
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
    [['--phase', 'end-to-end', '--memory', '80GB'], /^yoco: --memory is for --batch auto/],
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
    const { stderr, exitCode } = await runCli('profile-memory', '--analytic', '--out', at(), ...argv);
    assert.match(stderr, line);
    assert.is(stderr.trimEnd().split('\n').length, 1, stderr);
    assert.is(exitCode, 2, stderr);
  }
});

test.run();
