import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
  write('profile-prefill-ratio.timings.csv', [
    'model,self_decoder,early_exit,context,prefill_ratio',
    'tiny,gated-retention,true,1024,5',
  ]);
  write('profile-prefill.run.json', [
    '{"command":["yoco","profile-prefill","--ctx","1k,4k"],"engine":{"description":"plain & simple"}}',
  ]);
}

test('the page shows what the directory holds, joined with its timings, in one file', async () => {
  writeProfiles();
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
    'yoco profile-prefill --ctx 1k,4k',
    'plain &amp; simple',
  ]) {
    assert.ok(html.includes(text), text);
  }
  assert.not.match(html, /(?:src|href)="(?!#)|<script|@import|url\((?!#)/);
  for (const name of ['prefill', 'training'])
    assert.ok(existsSync(join(directory, 'figures', `${name}.svg`)), name);
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
