import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runCli } from '../cli/run.js';

const test = suite('report');
let directory = '';
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-report-'));
});
test.after.each(() => {
  rmSync(directory, { recursive: true, force: true });
});

const write = (path: string, lines: readonly string[]): void => {
  writeFileSync(join(directory, path), `${lines.join('\n')}\n`);
};

function writeProfiles(): void {
  write('profile-prefill.csv', [
    'model,architecture,self_decoder,early_exit,context,prefill_flops,status,error',
    'tiny,yoco,gated-retention,true,1024,1000,ok,',
    'tiny,yoco,gated-retention,true,4096,4000,ok,',
    'tiny,transformer,,true,1024,2000,ok,',
    'tiny,transformer,,true,1048576,,error,needs <3> GiB',
  ]);
  write('profile-prefill.timings.csv', [
    'model,architecture,self_decoder,early_exit,context,seconds_median,seconds_sd,tokens_per_second,flops_per_second',
    'tiny,yoco,gated-retention,true,1024,0.1,0.01,10240,10000',
    'tiny,yoco,gated-retention,true,4096,0.4,0.01,10240,10000',
    'tiny,transformer,,true,1024,0.5,0.01,2048,4000',
  ]);
  write('profile-prefill.run.json', [
    '{"command":["yoco","profile-prefill","--ctx","1k,4k","--config","it\'s here/*.json"],"engine":{"description":"plain & simple"}}',
  ]);
}

test('the page shows what the directory holds, joined with its timings, in one file', async () => {
  writeProfiles();
  write('training-rate.run.json', [
    '{"command":["node","--import","tsx","bench/cuda/training.ts","results/h200"]}',
  ]);
  mkdirSync(join(directory, 'yoco'));
  write('yoco/train.csv', [
    'step,tokens,loss,held_out_loss,status,error',
    '1,512,5.5,,ok,',
    '2,1024,4.5,4.75,ok,',
  ]);
  const { stdout, exitCode } = await runCli('report', directory);
  assert.is(exitCode, 0);
  assert.is(stdout, `${join(directory, 'report.html')}\n`);
  const html = readFileSync(join(directory, 'report.html'), 'utf8');
  for (const text of [
    '<td class="number">500 ms</td>',
    '5.00×',
    '4.75',
    "yoco profile-prefill --ctx 1k,4k --config 'it'\\''s here/*.json'\n",
    'node --import tsx bench/cuda/training.ts results/h200',
    'plain &amp; simple',
  ]) {
    assert.ok(html.includes(text), text);
  }
  assert.not.match(html, /(?:src|href)="(?!#)|<script|@import|url\((?!#)/);
  for (const name of ['prefill', 'training'])
    assert.ok(existsSync(join(directory, 'figures', `${name}.svg`)), name);
});

test('needles, multiple choice, long documents and ratios each have their part', async () => {
  write('needle.csv', [
    'model,architecture,self_decoder,haystack,variant,needles,context,depth,trials,correct,accuracy,status,error',
    'small,yoco,gated-retention,moby-dick,standard,1,4096,0,4,3,0.75,ok,',
  ]);
  write('needle-contexts.csv', [
    'model,architecture,self_decoder,haystack,variant,needles,context,trials,accuracy,interval_low,interval_high',
    'small,yoco,gated-retention,moby-dick,standard,1,4096,4,0.75,0.301,0.954',
  ]);
  write('eval-mmlu.csv', [
    'model,architecture,self_decoder,data,level,name,questions,accuracy,standard_error,chance,status,error',
    'small,yoco,gated-retention,mmlu,subject,astronomy,9,0.9,0.1,0.25,ok,',
    'small,yoco,gated-retention,mmlu,average,micro,57,0.375,0.0125,0.25,ok,',
    'other,transformer,,mmlu,average,micro,57,0.5,0.0125,0.25,ok,',
  ]);
  write('perplexity.csv', [
    'model,architecture,self_decoder,document,position,loss,status,error',
    'small,yoco,gated-retention,a.txt,256,2.5,ok,',
    'small,yoco,gated-retention,a.txt,1024,2.25,ok,',
    'small,yoco,gated-retention,a.txt,4096,2.025,ok,',
  ]);
  write('profile-memory.csv', [
    'model,architecture,self_decoder,context,kv_cache_bytes,total_bytes,status,error',
    'small,yoco,gated-retention,1048576,100,1000,ok,',
    'small,transformer,,1048576,8000,9400,ok,',
  ]);
  await runCli('report', directory);
  const html = readFileSync(join(directory, 'report.html'), 'utf8');
  const texts = [
    '>75 %</text>',
    '30.1 % – 95.4 %',
    '37.5 % ± 1.3',
    '50.0 % ± 1.3',
    'Long documents',
    '<td>a.txt</td><td class="number">256</td><td class="number">4k</td><td class="number">0.076</td>',
    '80.0×',
    '9.40×',
  ];
  for (const text of texts) assert.ok(html.includes(text), text);
  assert.ok(!html.includes('astronomy'), 'subjects stay in the table');
});

test('a sampled prefill is marked, and gives way to a whole one', async () => {
  const keys = 'model,architecture,self_decoder,early_exit,context';
  const cells = ['yoco-3b,yoco,gated-retention,true,1024', 'transformer-3b,transformer,,true,1024'];
  const table = (place: string, rows: readonly string[]): void => {
    mkdirSync(join(directory, place), { recursive: true });
    write(`${place}/profile-prefill.timings.csv`, [`${keys},prefilled_tokens,seconds_median`, ...rows]);
  };
  const page = async (): Promise<string> => {
    await runCli('report', directory);
    return readFileSync(join(directory, 'report.html'), 'utf8');
  };
  table('a', [`${cells[0] ?? ''},1024,0.5`]);
  table('b', [`${cells[1] ?? ''},256,20`]);
  const sampled = await page();
  for (const text of ['≈ 40.0×', 'transformer-3b, from sampled chunks'])
    assert.ok(sampled.includes(text), text);
  const ratios = (): string[] =>
    readFileSync(join(directory, 'ratios.timings.csv'), 'utf8').trimEnd().split('\n');
  const header =
    'model,self_decoder,baseline,context,quantity,yoco,transformer,ratio,integrated,yoco_folder,transformer_folder';
  const cell = 'yoco-3b,gated-retention,transformer-3b,1024,prefill_seconds,0.5';
  assert.equal(ratios(), [header, `${cell},20,40,transformer,a,b`]);
  table('c', [`${cells[1] ?? ''},1024,15`]);
  const whole = await page();
  assert.ok(whole.includes('>30.0×<'));
  assert.not.ok(whole.includes(', from sampled chunks'));
  assert.equal(ratios(), [header, `${cell},15,30,,a,c`]);
  table('c', []);
  rmSync(join(directory, 'b'), { recursive: true });
  assert.not.match(await page(), /ratios\.csv/);
  assert.not.ok(existsSync(join(directory, 'ratios.timings.csv')), 'ratios of what is gone');
});

test('of several measurements of a cell the first counts, without early exit none does', async () => {
  const rows = (yoco: number, transformer: number): string[] => [
    'model,architecture,self_decoder,context,tokens_per_second',
    `small,yoco,gated-retention,64,${yoco}`,
    `small,transformer,,64,${transformer}`,
  ];
  for (const place of ['a', 'b']) mkdirSync(join(directory, place));
  write('a/profile-throughput.timings.csv', rows(6, 3));
  write('b/profile-throughput.timings.csv', rows(9, 1));
  write('profile-prefill.timings.csv', [
    'model,architecture,self_decoder,early_exit,context,seconds_median',
    'small,yoco,gated-retention,false,64,1',
    'small,transformer,,false,64,2',
  ]);
  await runCli('report', directory);
  const [, ...lines] = readFileSync(join(directory, 'ratios.timings.csv'), 'utf8').trimEnd().split('\n');
  assert.equal(lines, ['small,gated-retention,small,64,decode_tokens_per_second,6,3,2,,a,a']);
});

test('memory of two presets is one chart, decoding has its share of a copy', async () => {
  write('profile-memory.csv', [
    'model,architecture,self_decoder,context,kv_cache_bytes,total_bytes,measured_peak_bytes,status,error',
    'yoco-3b,yoco,gated-retention,1024,100,1000,900,ok,',
    'transformer-3b,transformer,,1024,8000,9400,9000,ok,',
  ]);
  write('profile-memory.timings.csv', [
    'model,architecture,self_decoder,context,prefilled_tokens,reserved_peak_bytes,device_used_bytes',
    'yoco-3b,yoco,gated-retention,1024,1024,3072,4096',
    'transformer-3b,transformer,,1024,1024,,',
  ]);
  write('profile-throughput.timings.csv', [
    'model,architecture,self_decoder,context,tokens_per_second,bytes_per_second,copy_bytes_per_second,copy_share',
    'yoco-3b,yoco,gated-retention,1024,250,2000,4000,0.5',
  ]);
  await runCli('report', directory);
  const html = readFileSync(join(directory, 'report.html'), 'utf8');
  assert.ok(html.includes('50.0 %'));
  assert.ok(html.includes('10.0×'), 'measured peaks');
  const numbers = ['1k', '1,000 B', '900 B', '3 KiB', '4 KiB'].map(
    (text) => `<td class="number">${text}</td>`,
  );
  assert.ok(html.includes(`<td>yoco-3b</td>${numbers.join('')}`), 'memory of the device');
  assert.ok(existsSync(join(directory, 'figures', 'memory-yoco-3b-transformer-3b.svg')));
});

test('memory in chunks of two sizes is two charts, and a column tells them apart', async () => {
  for (const [folder, chunk, peak] of [
    ['a', 512, 900],
    ['b', 1024, 950],
  ] as const) {
    mkdirSync(join(directory, folder), { recursive: true });
    write(`${folder}/profile-memory.csv`, [
      'model,architecture,self_decoder,context,chunk_tokens,kv_cache_bytes,total_bytes,measured_peak_bytes,status,error',
      `tiny,yoco,gated-retention,1024,${chunk},100,1000,${peak},ok,`,
    ]);
  }
  await runCli('report', directory);
  const html = readFileSync(join(directory, 'report.html'), 'utf8');
  for (const [chunk, peak] of [
    ['512', '900 B'],
    ['1k', '950 B'],
  ] as const) {
    assert.ok(existsSync(join(directory, 'figures', `memory-tiny-chunk-${chunk}.svg`)), chunk);
    const numbers = ['1k', chunk, '1,000 B', peak].map((text) => `<td class="number">${text}</td>`);
    assert.ok(html.includes(numbers.join('')), peak);
  }
});

test('training rates and ways to decode have their parts, one for each folder', async () => {
  write('training-rate.csv', ['model,architecture,tokens_per_step,status,error', '160m,yoco,32768,ok,']);
  write('training-rate.timings.csv', [
    'model,architecture,seconds,tokens_per_second,flops_per_second,product_flops_per_second,share,peak_bytes',
    '160m,yoco,0.1,327000,350e12,786e12,0.445,1073741824',
  ]);
  const modes = (
    place: string,
    rows: readonly (readonly [mode: string, rate: number, same: boolean])[],
  ): void => {
    mkdirSync(join(directory, place));
    const key = (mode: string): string => `yoco-3b,32768,${mode}`;
    write(`${place}/decoding-modes.csv`, [
      'model,context,mode,same_tokens,status,error',
      ...rows.map(
        ([mode, , same]) => `${key(mode)},${same},${same ? 'ok,' : 'error,"tokens 1,2 instead of 1,3"'}`,
      ),
    ]);
    write(`${place}/decoding-modes.timings.csv`, [
      'model,context,mode,seconds,tokens_per_second,bytes_per_second,share',
      ...rows.map(([mode, rate]) => `${key(mode)},${1 / rate},${rate},1000,0.625`),
    ]);
  };
  modes('a', [
    ['computed', 100, true],
    ['recorded', 250, true],
    ['chained', 400, true],
  ]);
  await runCli('report', directory);
  const page = (): string => readFileSync(join(directory, 'report.html'), 'utf8');
  for (const text of [
    '327,000',
    '44.5 %',
    '350',
    '32,768',
    '1 GiB',
    '<td>yoco 160m</td>',
    '2.5 ms',
    '62.5 %',
  ])
    assert.ok(page().includes(text), text);
  assert.ok(page().includes('yoco-3b chained</text>'));
  assert.not.ok(page().includes('yoco-3b recorded</text>'), 'in the table only');
  assert.not.match(page(), /<h3>/);
  assert.ok(existsSync(join(directory, 'figures', 'decoding-modes.svg')));
  modes('b', [['other', 77.7, false]]);
  modes('c', [['computed', 88.8, true]]);
  await runCli('report', directory);
  assert.match(page(), /<h3>a<\/h3>[^]*<h3>c<\/h3>/);
  assert.not.ok(page().includes('77.7'), 'what failed is no measurement');
  assert.ok(existsSync(join(directory, 'figures', 'c-decoding-modes.svg')));
});

test('the page shows the notes of the directory, without their markup or scripts', async () => {
  writeProfiles();
  write('README.md', [
    '# One machine',
    '',
    'Measured on a *busy* card. <script>alert(1)</script> [bad](javascript:alert(1)) ![x](a.png)',
    '',
    '| a | b |',
    '|---|---|',
    '| 1 | 2 |',
  ]);
  await runCli('report', directory);
  const page = readFileSync(join(directory, 'report.html'), 'utf8');
  assert.match(page, /<h2>Notes<\/h2>\s*<h3>One machine<\/h3>/);
  assert.match(page, /Measured on a <em>busy<\/em> card\./);
  assert.match(page, /<div class="scroll"><table>[^]*<td>2<\/td>/);
  assert.not.match(page, /<script|href="javascript|<img/);
});

test('figures of others come from files given by name', async () => {
  writeProfiles();
  const file = join(directory, '..', `${basename(directory)}-reference.csv`);
  writeFileSync(file, 'figure,series,context,value,source\nprefill,paper YOCO,4096,6,the paper\n');
  try {
    await runCli('report', directory, '--reference', file, '--png');
  } finally {
    rmSync(file);
  }
  assert.match(readFileSync(join(directory, 'figures', 'prefill.svg'), 'utf8'), />paper YOCO<\/text>/);
  assert.is(readFileSync(join(directory, 'figures', 'prefill.png')).toString('latin1', 1, 4), 'PNG');
  const absent = await runCli('report', directory, '--reference', file);
  assert.match(absent.stderr, /reference\.csv: no such file/);
  assert.is(absent.exitCode, 1);
});

test('the same results give the same page', async () => {
  writeProfiles();
  const page = async (): Promise<string> => {
    await runCli('report', directory);
    return readFileSync(join(directory, 'report.html'), 'utf8');
  };
  assert.is(await page(), await page());
});

test('a directory without results, or none at all, is one clear line', async () => {
  const empty = await runCli('report', directory);
  assert.match(empty.stderr, /holds no results/);
  assert.is(empty.exitCode, 1);
  const absent = await runCli('report', join(directory, 'absent'));
  assert.match(absent.stderr, /there is no directory/);
  assert.is(absent.exitCode, 2);
});

test.run();
