/** `yoco report --serve` over HTTP: what it answers while tables grow, and what it does not. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serveReport } from '../../src/report/live/server.js';
import { GrowingTable } from '../../src/report/live/growing-table.js';
import { shortNames } from '../../src/report/live/runs.js';
import type { Curve, Link, View } from '../../src/report/live/view.js';
import { rejects, scratchDirectory } from '../checkpoint/scratch.js';
import { YOCO } from '../cli/program.js';
import { runCli } from '../cli/run.js';
import { HEAD, writeRun } from './training-runs.js';

const test = suite('live report');
const at = scratchDirectory(test);

/** Runs `body` against a server that shows directories. */
async function serving(directories: readonly string[], body: (url: string) => Promise<void>): Promise<void> {
  const server = await serveReport(directories);
  try {
    await body(server.url);
  } finally {
    await server.stop();
  }
}

const viewAt = async (url: string, query = ''): Promise<View> =>
  (await (await fetch(`${url}/view${query}`)).json()) as View;

const pointsOf = ({ charts }: View, id: string, run: string, kind = ''): Curve['points'] | undefined =>
  charts.find((chart) => chart.id === id)?.curves.find((curve) => curve.run === run && curve.kind === kind)
    ?.points;

test('curves of several runs grow with their tables', async () => {
  writeRun(at('a'), [5.5, 4.5]);
  writeRun(at('b'), [6.5]);
  await serving([at('a'), at('b')], async (url) => {
    const before = await viewAt(url);
    assert.equal(
      before.runs.map(({ name }) => name),
      ['a', 'b'],
    );
    assert.equal(pointsOf(before, 'loss', 'a'), [
      [100, 5.5],
      [200, 4.5],
    ]);
    appendFileSync(at('a/train.csv'), '3,300,4,3.75,ok,\n4,400,3.5');
    const after = await viewAt(url);
    assert.not.equal(after.version, before.version);
    // The line of which the end is missing is left for later.
    assert.equal(pointsOf(after, 'loss', 'a')?.at(-1), [300, 4]);
    assert.equal(pointsOf(after, 'loss', 'a', 'held-out'), [[300, 3.75]]);
    assert.is(after.runs[0]?.cells['held-out loss'], '3.75');
    assert.equal(pointsOf(after, 'loss', 'b'), [[100, 6.5]]);
    const steps = await viewAt(url, '?x=steps&points=1');
    assert.equal(pointsOf(steps, 'loss', 'a'), [[3, 14 / 3]]);
    const same = await fetch(`${url}/view`, { headers: { 'If-None-Match': `"${after.version}"` } });
    assert.is(same.status, 304);
  });
});

test('time, speed and each held-out text are drawn where they are known', async () => {
  writeRun(at('a'), [5, 4]);
  writeFileSync(at('a/train.timings.csv'), 'step,seconds,tokens_per_second\n1,3600,10\n2,1800,20\n');
  writeFileSync(at('a/held-out.csv'), 'step,source,loss,status,error\n2,all,4.5,ok,\n2,books,4,ok,\n');
  await serving([at()], async (url) => {
    const view = await viewAt(url, '?x=hours');
    assert.equal(view.abscissas, ['tokens', 'steps', 'hours']);
    assert.equal(pointsOf(view, 'tokens_per_second', 'a'), [
      [1, 10],
      [1.5, 20],
    ]);
    assert.equal(pointsOf(view, 'held-out books', 'a'), [[1.5, 4]]);
    assert.is(view.runs[0]?.cells['tokens/s'], '20');
  });
});

test('a run that begins, is replaced or goes away is noticed', async () => {
  await serving([at()], async (url) => {
    assert.equal((await viewAt(url)).runs, []);
    writeRun(at('a'), [5]);
    assert.equal(pointsOf(await viewAt(url), 'loss', 'a'), [[100, 5]]);
    writeFileSync(at('new.csv'), `${HEAD}\n1,100,7,,ok,\n2,200,6,,ok,\n`);
    renameSync(at('new.csv'), at('a/train.csv'));
    assert.is(pointsOf(await viewAt(url), 'loss', 'a')?.[0]?.[1], 7);
    writeFileSync(at('a/train.csv'), `${HEAD}\n1,"100\n`);
    const broken = await viewAt(url);
    assert.match(broken.problems.join(), /cannot read results: .*train\.csv/);
    rmSync(at('a'), { recursive: true });
    assert.equal((await viewAt(url)).runs, []);
  });
});

test('the links lead to the sections of the reports, which are made anew and not written', async () => {
  writeRun(at('a'), [5, 4]);
  await serving([at('a')], async (url) => {
    const links = (await (await fetch(`${url}/links`)).json()) as Link[];
    assert.equal(links, [{ text: 'Training', href: '/report/0#training' }]);
    const report = async (): Promise<string> => (await fetch(`${url}/report/0`)).text();
    assert.match(await report(), /<h2 id="training">[^]*<td class="number">200<\/td>/);
    appendFileSync(at('a/train.csv'), '3,300,3.875,,ok,\n');
    assert.match(await report(), /<td class="number">300<\/td>/);
    assert.is((await fetch(`${url}/report/1`)).status, 404);
  });
  assert.not.ok(existsSync(at('a/report.html')));
});

test('nothing outside the directories is shown', async () => {
  writeFileSync(at('secret.csv'), `${HEAD}\n1,100,0.125,,ok,\n`);
  writeFileSync(at('README.md'), 'a secret note');
  writeRun(at('runs/a'), [5]);
  mkdirSync(at('runs/b'));
  symlinkSync(at('secret.csv'), at('runs/b/train.csv'));
  symlinkSync(at('secret.csv'), at('runs/a/train.timings.csv'));
  symlinkSync(at('README.md'), at('runs/README.md'));
  await serving([at('runs')], async (url) => {
    const view = await viewAt(url);
    assert.equal(
      view.runs.map(({ name }) => name),
      ['a'],
    );
    assert.is(view.problems.length, 3);
    assert.match(view.problems.join('\n'), /"b\/train\.csv" is a link out of the directory/);
    assert.not.match(JSON.stringify(view), /0\.125/);
    const report = await fetch(`${url}/report/0`);
    assert.is(report.status, 404);
    assert.not.match(await report.text(), /secret note/);
    for (const path of [
      '/../secret.csv',
      '/..%2fsecret.csv',
      '/%2e%2e/secret.csv',
      '/secret.csv',
      '/report/0/../..',
    ]) {
      assert.is((await fetch(url + path)).status, path.endsWith('..') ? 200 : 404, path);
    }
    assert.is((await fetch(`${url}/view?x=secret`)).status, 400);
    assert.is((await fetch(`${url}/view?points=9999`)).status, 400);
    assert.is((await fetch(`${url}/view`, { method: 'POST' })).status, 404);
  });
});

test('the page and what it loads come from the server alone', async () => {
  writeRun(at('a <b>'), [5]);
  await serving([at('a <b>')], async (url) => {
    const page = await fetch(url);
    const html = await page.text();
    assert.match(html, /<h1>a &lt;b&gt;<\/h1>/);
    assert.match(page.headers.get('Content-Security-Policy') ?? '', /default-src 'none'; script-src 'self'/);
    const loaded = [...html.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, address = '']) => address);
    assert.equal(loaded, ['/echarts.js', '/page.js']);
    for (const path of ['/echarts.js', '/page.js']) {
      const script = await fetch(url + path);
      assert.match(script.headers.get('Content-Type') ?? '', /^text\/javascript/);
      assert.not.match(await script.text(), /\bimport [^(]*from|: string\b/);
    }
  });
});

test('bad words are refused in one line', async () => {
  writeFileSync(at('file'), '');
  const absent = await runCli('report', at('absent'), '--serve');
  assert.equal([absent.exitCode, absent.stdout], [2, '']);
  assert.match(absent.stderr, /^yoco: there is no directory .*absent\n$/);
  assert.match(
    (await runCli('report', at('file'), '--serve')).stderr,
    /^yoco: .*file is a file, not a directory.*\n$/,
  );
  const two = await runCli('report', at(), at('b'));
  assert.is(two.exitCode, 2);
  assert.match(two.stderr, /--serve shows several\n$/);
  const port = await runCli('report', at(), '--port', '80');
  assert.is(port.exitCode, 2);
  assert.match(port.stderr, /--serve/);
  await serving([at()], async (url) => {
    await rejects(serveReport([at()], { port: Number(new URL(url).port) }), /the port is in use/);
  });
});

test('the command prints its address, and the first signal ends it well', async () => {
  const child = spawn(process.execPath, [...YOCO, 'report', at(), '--serve', '--port', '0'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const ended = once(child, 'close');
  const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
  assert.match(line, /^http:\/\/127\.0\.0\.1:\d+\n$/);
  // A connection that is kept open does not keep the server.
  assert.is((await fetch(line.trim())).status, 200);
  child.kill('SIGINT');
  assert.equal(await ended, [0, null], errors);
});

test('names are as short as they can be', () => {
  assert.equal(shortNames(['runs/a', 'runs/b']), ['a', 'b']);
  assert.equal(shortNames(['/x/runs/a/yoco', '/x/runs/b/yoco']), ['a/yoco', 'b/yoco']);
  assert.equal(shortNames(['runs/a']), ['a']);
  assert.equal(shortNames(['runs', 'runs/a']), ['runs', 'runs/a']);
  assert.equal(shortNames([]), []);
});

test('a table that grows gives what reading it whole gives', () => {
  const table = new GrowingTable(at('train.csv'));
  assert.is(table.refresh(), false);
  writeFileSync(at('train.csv'), HEAD);
  table.refresh();
  assert.equal(table.rows, []);
  appendFileSync(at('train.csv'), '\n1,100,5,,ok,\n2,20');
  assert.is(table.refresh(), true);
  assert.is(table.rows.length, 1);
  appendFileSync(at('train.csv'), '0,4,,ok,\n');
  assert.is(table.refresh(), true);
  assert.is(table.refresh(), false);
  const whole = new GrowingTable(at('train.csv'));
  whole.refresh();
  assert.equal(table.rows, whole.rows);
  assert.equal(table.rows[1], {
    step: 2,
    tokens: 200,
    loss: 4,
    held_out_loss: null,
    status: 'ok',
    error: null,
  });
});

test.run();
