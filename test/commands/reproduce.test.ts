import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { experimentNames, loadExperiment } from '../../src/cli/experiment.js';
import { ExperimentLog } from '../../src/cli/experiment-log.js';
import { visibleGpus } from '../../src/cli/jobs.js';
import { runCli } from '../cli/run.js';

const test = suite('reproduce');
let directory = '';
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-reproduce-'));
});
test.after.each(() => {
  rmSync(directory, { recursive: true, force: true });
});

const write = (content: unknown): string => {
  const file = join(directory, 'experiment.json');
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
};

test('what is no experiment is refused in one line that names the file', async () => {
  const out = directory;
  const step = { title: 'a', run: 'train' };
  const cases: [unknown, number, RegExp][] = [
    ['{', 1, /experiment\.json: not valid JSON/],
    ['null', 1, /experiment\.json: expected Object, found null/],
    [{ out, steps: [step] }, 1, /experiment\.json: description is missing/],
    [{ description: 'x', out, steps: [] }, 1, /steps: expected at least one step/],
    [{ description: 'x', out, steps: [step, { ...step, run: 1 }] }, 1, /steps\.1\.run: expected string/],
    [{ description: 'x', out, steps: [{ title: 'a' }] }, 1, /steps\.0: expected either 'run'/],
    [{ description: 'x', out, steps: [{ ...step, script: 'a.ts' }] }, 1, /steps\.0: expected either 'run'/],
    [{ description: 'x', out, inputs: { a: 1 }, steps: [step] }, 1, /inputs\.a: expected string/],
    [{ description: 'x', out, steps: [{ ...step, run: 'trian --fast' }] }, 2, /no command 'trian'/],
  ];
  for (const [content, status, line] of cases) {
    const { stderr, exitCode } = await runCli('reproduce', write(content));
    assert.match(stderr, line);
    assert.is(stderr.trimEnd().split('\n').length, 1);
    assert.is(exitCode, status);
  }
  const absent = await runCli('reproduce', 'nowhere');
  assert.match(absent.stderr, /no experiment 'nowhere'/);
  assert.is(absent.exitCode, 2);
});

test('every shipped experiment is well-formed', () => {
  for (const name of experimentNames()) assert.is(loadExperiment(name).name, name);
});

test('a step is done while it, the steps before it and its files are what they were', () => {
  const steps = ['one', 'two'].map((title) => ({
    title,
    kind: 'run' as const,
    command: 'train',
    args: [title],
  }));
  const hashes = ExperimentLog.hashes(steps, '1');
  const [first = '', second = ''] = hashes;
  const file = join(directory, 'train.csv');
  const started = Date.now();
  writeFileSync(file, 'a');
  new ExperimentLog(directory, true).record(first, 'one', started - 1000);
  assert.is(new ExperimentLog(directory, true).isDone(first), true);
  assert.is(new ExperimentLog(directory, true).isDone(second), false);
  assert.is(new ExperimentLog(directory, false).isDone(first), false);
  const changed = ExperimentLog.hashes(
    [{ title: 'one', kind: 'run', command: 'train', args: ['other'] }, ...steps.slice(1)],
    '1',
  );
  assert.ok(changed.every((hash) => !hashes.includes(hash)));
  rmSync(file);
  assert.is(new ExperimentLog(directory, true).isDone(first), false);
  assert.ok(existsSync(join(directory, 'reproduce.json')));
});

test('a log of another shape counts for nothing', () => {
  const [hash = ''] = ExperimentLog.hashes([{ title: 'one', kind: 'run', command: 'train', args: [] }], '1');
  for (const log of ['null', '3', '[]', `{"${hash}":null}`, `{"${hash}":{"files":"a"}}`, '{']) {
    writeFileSync(join(directory, 'reproduce.json'), log);
    assert.is(new ExperimentLog(directory, true).isDone(hash), false, log);
  }
});

test('a step without its input is skipped and says what it needs; an unknown input is refused', async () => {
  const file = write({
    description: 'x',
    out: join(directory, 'out'),
    inputs: { models: 'a directory' },
    steps: [
      { title: 'Memory', run: 'profile-memory --analytic --ctx 1k --config {models}/a.json --out {out}' },
    ],
  });
  const without = await runCli('reproduce', file);
  assert.is(without.exitCode, 0, without.stderr);
  assert.match(without.stderr, /\[1\/1\] Memory: skipped, it needs --input models=PATH \(a directory\)/);
  const unknown = await runCli('reproduce', file, '--input', 'novels=x');
  assert.match(unknown.stderr, /no such input; its inputs: models/);
  assert.is(unknown.exitCode, 2);
  const given = await runCli('reproduce', file, '--input', `models=${directory}`);
  assert.match(given.stderr, new RegExp(`${directory}/a\\.json`));
});

test('--engine goes to the steps that measure on one and name none', async () => {
  const out = join(directory, 'out');
  const run = 'profile-memory --arch yoco --preset pico --analytic --ctx 1k --out';
  const file = write({
    description: 'x',
    out,
    steps: [
      { title: 'Free', run: `${run} {out}/free` },
      { title: 'Named', run: `${run} {out}/named --engine auto` },
      { title: 'Page', run: 'report {out}' },
    ],
  });
  const { stderr, exitCode } = await runCli('reproduce', file, '--engine', 'cpu');
  assert.is(exitCode, 0, stderr);
  assert.match(stderr, /Free {2}\(yoco .*free --engine cpu\)/);
  assert.match(stderr, /Named {2}\(yoco .*named --engine auto\)/);
  assert.match(stderr, /Page {2}\(yoco report [^ ]*out\)/);
});

test('--check compares each table with the one of the same name, after finished steps too', async () => {
  const step = { title: 'Memory', run: 'profile-memory --analytic --ctx 1k --out {out}/memory' };
  const [out, reference] = [join(directory, 'out'), join(directory, 'reference', 'memory')];
  const file = write({ description: 'x', out, steps: [step] });
  const check = ['--check', join(directory, 'reference')];
  const absent = await runCli('reproduce', file, ...check);
  assert.match(absent.stderr, /--check .*reference: there is no such directory/);
  assert.is((await runCli('reproduce', file)).exitCode, 0);

  mkdirSync(reference, { recursive: true });
  const table = readFileSync(join(out, 'memory', 'profile-memory.csv'), 'utf8');
  writeFileSync(join(reference, 'profile-memory.csv'), table);
  const same = await runCli('reproduce', file, ...check);
  assert.match(same.stderr, /figures agree with .*reference\/memory\/profile-memory\.csv within 0 %/);
  assert.is(same.exitCode, 0, same.stderr);

  const [head = '', first = ''] = table.split('\n');
  const at = head.split(',').indexOf('kv_cache_bytes');
  const better = first.split(',').map((cell, i) => (i === at ? '1' : cell));
  writeFileSync(join(reference, 'profile-memory.csv'), `${head}\n${better.join(',')}\n`);
  const worse = await runCli('reproduce', file, ...check);
  assert.match(worse.stderr, /regression: .*kv_cache_bytes \d+, was 1/);
  assert.match(worse.stderr, /1 of 1 steps have failed cells or worse figures: Memory/);
  assert.is(worse.exitCode, 1);
});

test('an experiment runs its steps, skips what is done, and says which step is unfinished', async () => {
  const memory = { title: 'Memory', run: 'profile-memory --analytic --ctx 1k --out {out}' };
  const report = { title: 'Page', run: 'report {out}' };
  const file = write({ description: 'x', out: join(directory, 'out'), steps: [memory, report] });
  const first = await runCli('reproduce', file);
  assert.is(first.exitCode, 0, first.stderr);
  assert.match(first.stderr, /\[1\/2\] Memory {2}\(yoco profile-memory --analytic/);
  assert.ok(existsSync(join(directory, 'out', 'report.html')));

  const again = await runCli('reproduce', file);
  assert.match(again.stderr, /\[1\/2\] Memory: done before\n.*\[2\/2\] Page: done before/);
  assert.is(again.stdout, '');

  rmSync(join(directory, 'out', 'report.html'));
  const repaired = await runCli('reproduce', file);
  assert.match(repaired.stderr, /Memory: done before/);
  assert.ok(existsSync(join(directory, 'out', 'report.html')));

  const afresh = await runCli('reproduce', file, '--no-resume', '--quiet');
  assert.is(afresh.exitCode, 0);
  assert.match(afresh.stdout, /kv_cache_bytes/);
});

test('a step that fails stops the experiment with its own line and status', async () => {
  const steps = [{ title: 'Wrong', run: `report ${join(directory, 'absent')}` }];
  const { stderr, exitCode } = await runCli(
    'reproduce',
    write({ description: 'x', out: directory, steps }),
    '-q',
  );
  assert.match(stderr, /^yoco: there is no directory .*absent\n$/);
  assert.is(exitCode, 2);
});

const analytic = (name: string, context = '1k'): string =>
  `profile-memory --analytic --ctx ${context} --out {out}/${name}`;

test('independent steps run side by side and leave what they leave one after the other', async () => {
  const steps = [
    { title: 'a', group: 'g', run: analytic('a') },
    { title: 'b', group: 'g', run: analytic('b', '2k') },
    { title: 'last', run: analytic('last', '4k') },
  ];
  const [one, two] = ['one', 'two'].map((name) => join(directory, name)) as [string, string];
  const file = write({ description: 'x', out: one, steps });
  const first = await runCli('reproduce', file);
  assert.is(first.exitCode, 0, first.stderr);
  const second = await runCli('reproduce', file, '--out', two, '--jobs', '2');
  assert.is(second.exitCode, 0, second.stderr);
  for (const name of ['a', 'b', 'last']) {
    const [expected, found] = [one, two].map((out) =>
      readFileSync(join(out, name, 'profile-memory.csv'), 'utf8'),
    );
    assert.is(found, expected);
  }
  const again = await runCli('reproduce', file, '--out', two, '--jobs', '2');
  assert.is(again.stderr.match(/done before/g)?.length, 3, again.stderr);
});

test('a step of a group that fails does not keep its neighbours from running, but what needs it', async () => {
  const steps = [
    { title: 'bad', group: 'g', run: 'profile-memory --analytic --ctx 12q --out {out}/bad' },
    { title: 'good', group: 'g', run: analytic('good') },
    { title: 'last', run: analytic('last') },
  ];
  const { exitCode, stderr } = await runCli(
    ...['reproduce', write({ description: 'x', out: join(directory, 'o'), steps }), '--jobs', '2'],
  );
  assert.is(exitCode, 1);
  assert.match(stderr, /'12q' is not a number of tokens/);
  assert.match(stderr, /steps could not run: bad/);
  assert.ok(existsSync(join(directory, 'o', 'good', 'profile-memory.csv')));
  assert.not.ok(existsSync(join(directory, 'o', 'last')));
});

test('Ctrl-C lets the steps that run side by side save, and starts no other', async () => {
  const out = join(directory, 'o');
  const run = 'train --engine cpu --preset pico --batch 1 --length 16 --steps 100000 --quiet --out {out}/';
  const steps = ['a', 'b', 'c'].map((title) => ({ title, group: 'g', run: run + title }));
  const file = write({ description: 'x', out, steps });
  const running = runCli('reproduce', file, '--jobs', '2');
  const begun = (step: string): boolean => {
    const csv = join(out, step, 'train.csv');
    return existsSync(csv) && readFileSync(csv, 'utf8').split('\n').length > 2;
  };
  while (!begun('a') || !begun('b')) await setImmediate();
  process.emit('SIGINT', 'SIGINT');
  const { exitCode, stderr } = await running;
  assert.is(exitCode, 130, stderr);
  assert.match(stderr, /interrupted; the same command resumes\n$/);
  for (const step of ['a', 'b']) assert.is(readdirSync(join(out, step, 'checkpoints')).length, 1);
  assert.not.ok(existsSync(join(out, 'c')));
});

test('jobs take the GPUs that the process may use, by their own names', () => {
  const four = (): number => 4;
  assert.equal(visibleGpus(undefined, four), ['0', '1', '2', '3']);
  assert.equal(visibleGpus('2,3', four), ['2', '3']);
  assert.equal(visibleGpus('GPU-8932f937, GPU-11b2', four), ['GPU-8932f937', 'GPU-11b2']);
  for (const nothingToChoose of ['', '1', '-1', '0,-1,2']) {
    assert.equal(visibleGpus(nothingToChoose, four), [], nothingToChoose);
  }
});

test('one step of the list runs by itself', async () => {
  const steps = ['a', 'b'].map((title) => ({ title, run: analytic(title) }));
  const out = join(directory, 'o');
  const file = write({ description: 'x', out, steps });
  const { exitCode, stderr } = await runCli('reproduce', file, '--step', '2');
  assert.is(exitCode, 0, stderr);
  assert.equal([existsSync(join(out, 'a')), existsSync(join(out, 'b'))], [false, true]);
  const needy = write({
    ...{ description: 'x', out, inputs: { novels: 'some books' } },
    steps: [{ title: 'needy', run: 'perplexity {novels}' }],
  });
  const lacking = await runCli('reproduce', needy, '--step', '1');
  assert.match(lacking.stderr, /--step 1 needs --input novels=PATH \(some books\)/);
  write({ description: 'x', out, steps });
  const beyond = await runCli('reproduce', file, '--step', '3');
  assert.match(beyond.stderr, /--step 3: the experiment has 2 steps/);
  assert.is(beyond.exitCode, 2);
});

test.run();
