import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { onnxruntimeDirectory } from '../../src/engines/cpu/library.js';
import { runCli } from '../cli/run.js';
import { printedRows, profiling } from './profiling.js';

const test = suite('profile-memory');
const { at, common, text } = profiling(test);

function hasNativeKernels(): boolean {
  try {
    return existsSync(onnxruntimeDirectory());
  } catch {
    return false;
  }
}

test('memory of what cannot run is not computed: compressed keys and values over ranks', async () => {
  const { exitCode, stderr } = await runCli(
    ...[
      'profile-memory',
      '--analytic',
      ...common(),
      '--ctx',
      '4k',
      '--context-parallel',
      '2',
      '--kv-dtype',
      'int4',
    ],
  );
  assert.is(exitCode, 2);
  assert.match(stderr, /\(--kv-dtype\) cannot be divided over ranks/);
});

test('measured memory is what the formulas say', async () => {
  const rows = await printedRows(
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
  await printedRows(...argv);
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
  const rows = await printedRows(...argv);
  const small = await printedRows(...argv, '--kv-dtype', 'int4', '--no-resume');
  const logits = await printedRows(...argv, '--chunk-logits', '--chunk', '4k', '--no-resume');
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

test('--compute float8 is recorded, changes weights only, and its table is not continued without it', async () => {
  const argv = ['profile-memory', ...common(at('float8')), '--ctx', '64', '--chunk', '64'];
  const float8 = [...argv, '--compute', 'float8'];
  const [row = {}] = await printedRows(...float8);
  assert.is(row.weights_bytes, row.measured_weights_bytes);
  const record = JSON.parse(text('float8/profile-memory.run.json')) as { engine: { compute?: string } };
  assert.is(record.engine.compute, 'float8');
  await printedRows(...float8);
  const { stderr, exitCode } = await runCli(...argv);
  assert.match(stderr, /^yoco: .*profile-memory\.run\.json is of a run with products in float8, this one is without other types: name another --out, or start over with --no-resume\n$/); // prettier-ignore
  assert.is(exitCode, 2);
  const [again = {}] = await printedRows(...argv, '--no-resume');
  assert.is(again.measured_weights_bytes, row.measured_weights_bytes, 'the cpu engine stores float32');
  const other = await runCli(...float8);
  assert.match(other.stderr, /is of a run without other types, this one is with products in float8/);

  const bare = ['profile-memory', '--analytic', ...common(at('analytic'))];
  const analytic = [...bare, '--ctx', '64'];
  const [usual = {}] = await printedRows(...analytic);
  for (const other of ['--compute=float8', '--kv-dtype=int4']) {
    const refused = await runCli(...bare, '--ctx', '128', other);
    assert.match(
      refused.stderr,
      /is of a run without other types, this one is with (products in float8|K\/V in int4)/,
    );
    assert.is(refused.exitCode, 2);
  }
  const [small = {}] = await printedRows(...analytic, '--compute', 'float8', '--no-resume');
  const share = Number(small.weights_bytes) / Number(usual.weights_bytes);
  assert.ok(share > 0.5 && share < 0.8, `float8 takes ${share} of bfloat16`);
  assert.is(small.kv_cache_bytes, usual.kv_cache_bytes);
  assert.is(small.activation_bytes, usual.activation_bytes);
});

test('--compute float8 is refused for a model none of whose weights can be kept in it', async () => {
  const shape = { dim: 40, layers: 4, hiddenDim: 100, heads: 5, kvHeads: 5, vocabSize: 264 };
  writeFileSync(at('odd.json'), JSON.stringify(shape));
  const argv = ['profile-memory', '--config', at('odd.json'), '--ctx', '64', '--compute', 'float8'];
  const message = /no weight of this model can be kept in float8, .*: leave out --compute\n/;
  const computed = await runCli(...argv, '--analytic', '--out', at('odd'));
  assert.match(computed.stderr, message);
  assert.is(computed.exitCode, 2);
  const measured = await runCli(...argv, '--engine', 'cpu', '--out', at('odd-measured'));
  assert.match(measured.stdout, message);
  assert.is(measured.exitCode, 1);
});

test('a filled cache takes the memory of a computed one, and is decoded after', async () => {
  const models = ['--arch', 'yoco,transformer', '--ctx', '512,1k', '--fill-cache'];
  const argv = ['profile-memory', ...common(), '--chunk', '256', ...models];
  const filled = await printedRows(...argv);
  const computed = await printedRows(...argv.slice(0, -1));
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
  const decoded = await printedRows(
    'profile-throughput',
    ...common(),
    '--tokens',
    '2',
    '--warmup',
    '1',
    ...models,
  );
  assert.equal(decoded.map(({ prefilled_tokens: tokens }) => tokens), [512, 1024, 512, 1024]); // prettier-ignore
  for (const { bytes_per_second: rate, copy_bytes_per_second: copy, copy_share: share } of decoded) {
    assert.ok(Math.abs(Number(rate) / Number(copy) - Number(share)) < 1e-3);
  }
});

test('--check reads its file before the run replaces it, and refuses another table before the work', async () => {
  const argv = ['profile-memory', '--analytic', '--ctx', '1k', ...common()];
  assert.is((await runCli(...argv)).exitCode, 0);
  const file = at('profile-memory.csv');
  const table = text('profile-memory.csv');
  const [head = '', row = ''] = table.split('\n');
  const column = head.split(',').indexOf('kv_cache_bytes');
  const cells = row.split(',').map((cell, i) => (i === column ? '1' : cell));
  writeFileSync(file, `${head}\n${cells.join(',')}\n`);
  const report = at('reports/junit.xml');
  const check = ['--no-resume', '--check', file, '--check-report', report];
  const worse = await runCli(...argv, ...check);
  assert.match(worse.stderr, /kv_cache_bytes \d+, was 1\b/);
  assert.is(worse.exitCode, 1);
  assert.is(text('profile-memory.csv'), table, 'the run replaced it');
  assert.match(readFileSync(report, 'utf8'), /failures="1"[^]*<failure [^]*kv_cache_bytes/);
  const other = at('other.csv');
  writeFileSync(other, 'a,b\n1,2\n');
  const out = at('untouched');
  const refused = await runCli('profile-memory', '--analytic', ...common(out), '--check', other);
  assert.match(refused.stderr, /other\.csv is no table of profile-memory/);
  assert.not.ok(existsSync(out));
});

test('--check names the rows that regressed', async () => {
  const argv = (out: string): string[] => ['profile-memory', ...common(out), '--ctx', '64', '--analytic'];
  await runCli(...argv(at()));
  const check = ['--check', at('profile-memory.csv')];
  const same = await runCli(...argv(at('a')), ...check);
  assert.is(same.exitCode, 0, same.stderr);
  const other = await runCli(...argv(at('b')), ...check, '--dtype', 'float32', '--tolerance', '50');
  assert.is(other.exitCode, 1);
  assert.match(other.stderr, /regression: .*context=64: weights_bytes \d+, was \d+ \(100\.0 % worse\)/);
});

test('layouts by name and by their parts, each a row of its own', async () => {
  const layouts = 'transformer,retnet,unstacked-yoco,2*(retention attention),6*retention memory 2*cross';
  const { stdout, exitCode } = await runCli(
    ...['profile-memory', '--analytic', '--preset', 'tiny', '--ctx', '1k', '--format', 'csv'],
    ...['--layout', layouts, '--self-decoder', 'retention', '--out', at()],
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

test.run();
