import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { runCli } from '../cli/run.js';
import { writeLines } from './tables.js';

const test = suite('report');
const at = scratchDirectory(test);
const write = (path: string, lines: readonly string[]): void => {
  writeLines(at(path), lines);
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
  mkdirSync(at('yoco'));
  write('yoco/train.csv', [
    'step,tokens,loss,held_out_loss,status,error',
    '1,512,5.5,,ok,',
    '2,1024,4.5,4.75,ok,',
  ]);
  const { stdout, exitCode } = await runCli('report', at());
  assert.is(exitCode, 0);
  assert.is(stdout, `${at('report.html')}\n`);
  const html = readFileSync(at('report.html'), 'utf8');
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
  for (const name of ['prefill', 'training']) assert.ok(existsSync(at(`figures/${name}.svg`)), name);
});

test('the page shows the notes of the at(), without their markup or scripts', async () => {
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
  await runCli('report', at());
  const page = readFileSync(at('report.html'), 'utf8');
  assert.match(page, /<h2 id="notes">Notes<\/h2>\s*<h3>One machine<\/h3>/);
  assert.match(page, /Measured on a <em>busy<\/em> card\./);
  assert.match(page, /<div class="scroll"><table>[^]*<td>2<\/td>/);
  assert.not.match(page, /<script|href="javascript|<img/);
});

test('figures of others come from files given by name, and each is drawn', async () => {
  writeProfiles();
  const file = `${at()}-reference.csv`;
  const report = async (value: string) => {
    const points = `prefill,paper YOCO,4096,6,the paper\nprefill,paper YOCO,8192,${value},the paper\n`;
    writeFileSync(file, `figure,series,context,value,source\n${points}`);
    try {
      return await runCli('report', at(), '--reference', file, '--png');
    } finally {
      rmSync(file);
    }
  };
  // Not as a table of ours has them.
  for (const value of ['12.50', '1.25e1']) {
    await report(value);
    assert.match(readFileSync(at('figures/prefill.svg'), 'utf8'), /paper YOCO: 6 s at 4k, 12\.5 s at 8k/);
  }
  assert.is(readFileSync(at('figures/prefill.png')).toString('latin1', 1, 4), 'PNG');
  for (const value of ['', 'fast', 'Infinity']) {
    const refused = await report(value);
    assert.match(refused.stderr, new RegExp(`reference prefill, paper YOCO, 8192: value is '${value}', not a number`)); // prettier-ignore
    assert.is(refused.exitCode, 1);
  }
  const absent = await runCli('report', at(), '--reference', file);
  assert.match(absent.stderr, /reference\.csv: no such file/);
  assert.is(absent.exitCode, 1);
});

test('the same results give the same page', async () => {
  writeProfiles();
  const page = async (): Promise<string> => {
    await runCli('report', at());
    return readFileSync(at('report.html'), 'utf8');
  };
  assert.is(await page(), await page());
});

test('a directory without results, or none at all, is one clear line', async () => {
  const empty = await runCli('report', at());
  assert.match(empty.stderr, /holds no results/);
  assert.is(empty.exitCode, 1);
  const absent = await runCli('report', at('absent'));
  assert.match(absent.stderr, /there is no directory/);
  assert.is(absent.exitCode, 2);
});

test.run();
