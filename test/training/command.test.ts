import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { runCli } from '../cli/run.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('commands train and convert');
const at = scratchDirectory(test);
test.after(usePlainBackend);

function files(): { text: string; config: string } {
  writeFileSync(at('text.txt'), 'It was the best of times, it was the worst of times. '.repeat(60));
  const config = { dim: 16, layers: 2, hiddenDim: 24, heads: 2, vocabSize: 264 };
  writeFileSync(at('small.json'), JSON.stringify(config));
  return { text: at('text.txt'), config: at('small.json') };
}

const engine = ['--engine', 'cpu', '--threads', '1', '--quiet'];

test('trains, goes on, converts, and trains from what was converted', async () => {
  const { text, config } = files();
  const common = [
    '--data',
    text,
    '--steps',
    '4',
    '--batch',
    '2',
    '--length',
    '16',
    '--eval-every',
    '2',
    ...engine,
  ];
  const first = await runCli('train', '--config', config, ...common, '--out', at('run'), '--format', 'json');
  assert.is(first.exitCode, 0, first.stderr);
  assert.is(first.stderr, '');
  const rows = JSON.parse(first.stdout) as { step: number; held_out_loss: number }[];
  assert.equal(
    rows.map(({ step }) => step),
    [2, 4],
  );
  const again = await runCli('train', '--config', config, ...common, '--out', at('run'), '--format', 'json');
  assert.is(again.stdout, first.stdout);

  const converted = await runCli(
    'convert',
    at('run'),
    at('official'),
    '--to',
    'official',
    '--quiet',
    '--format',
    'csv',
  );
  assert.is(converted.exitCode, 0, converted.stderr);
  assert.match(
    converted.stdout,
    /^source,destination,from,to,architecture,tokenizer,tensors,parameters,source_bytes,written_bytes,/,
  );
  assert.match(converted.stdout, /,yoco,official,yoco,bytes,/);
  assert.ok(existsSync(at('official/checkpoint.pth')));

  const more = await runCli(
    'train',
    '--checkpoint',
    at('official'),
    ...common,
    '--out',
    at('more'),
    '--format',
    'json',
  );
  assert.is(more.exitCode, 0, more.stderr);
  const [after] = JSON.parse(more.stdout) as { held_out_loss: number }[];
  assert.ok(after && rows[0] && after.held_out_loss < rows[0].held_out_loss);
  assert.match(readFileSync(at('more/train.run.json'), 'utf8'), /"[0-9a-f]{64}"/);
});

test('settings come from a recipe, and flags go before it', async () => {
  const { text, config } = files();
  const recipe = {
    data: [text],
    stages: [
      { steps: 2, batch: 1, length: 8 },
      { steps: 1, batch: 2, length: 16 },
    ],
    seed: 7,
  };
  writeFileSync(at('recipe.json'), JSON.stringify(recipe));
  const run = [
    'train',
    '--config',
    config,
    '--recipe',
    at('recipe.json'),
    '--seed',
    '8',
    ...engine,
    '--out',
    at('run'),
  ];
  const { exitCode, stderr } = await runCli(...run);
  assert.is(exitCode, 0, stderr);
  const { configuration } = JSON.parse(readFileSync(at('run/train.run.json'), 'utf8')) as {
    configuration: { recipe: { seed: number; stages: { length: number }[] } };
  };
  assert.is(configuration.recipe.seed, 8);
  assert.equal(
    configuration.recipe.stages.map(({ length }) => length),
    [8, 16],
  );
  assert.is(readFileSync(at('run/train.csv'), 'utf8').trim().split('\n').at(-1)?.split(',')[1], '48');
});

test('wrong usage is one line and status 2, failures are status 1', async () => {
  const { text, config } = files();
  writeFileSync(at('recipe.json'), '{"step":5}');
  writeFileSync(at('bad.jsonl'), '{"text":"fine"}\n{"text":5}\n');
  const corpus: [argv: string[], exitCode: number, message: RegExp][] = [
    [['train', '--preset', 'huge'], 2, /unknown preset 'huge': the presets are pico/],
    [['train', '--length', '12q'], 2, /'12q' is not a number of tokens/],
    [['train', '--lr', 'fast'], 2, /'fast' is not a number/],
    [['train', '--lr', '0'], 2, /learningRate must be a positive number/],
    [['train', '--steps', '0'], 2, /--steps/],
    [['train', '--arch', 'yoco,transformer'], 2, /works on one model/],
    [['train', '--recipe', at('recipe.json')], 2, /unknown field step/],
    [['train', '--recipe', at('absent.json')], 2, /recipe .*absent\.json: there is no such file/],
    [['train', '--check', at('absent.csv')], 2, /--check .*absent\.csv: there is no such file/],
    [['train', '--checkpoint', at('absent')], 2, /there is no checkpoint directory .*absent/],
    [['train', '--data', at('absent')], 2, /no such file or directory: .*absent/],
    [
      ['train', '--config', config, '--data', at('bad.jsonl')],
      1,
      /bad\.jsonl:2: expected an object with a text/,
    ],
    [['train', '--config', config, '--data', text, '--length', '1m'], 2, /the training text has \d+ tokens/],
    [['convert', at('absent'), at('x'), '--to', 'yoco'], 2, /there is no checkpoint directory .*absent/],
    [['convert', at(), at('x'), '--to', 'yoco'], 2, /holds no checkpoint of a known format/],
    [
      ['convert', at('a'), at('b'), '--to', 'ggml'],
      2,
      /to be one of: yoco, official, huggingface, fla, meta, gguf/,
    ],
    [['convert', at('a'), at('b'), '--to', 'yoco', '--max-shard', 'x'], 2, /'x' is not a number of bytes/],
  ];
  for (const [[command = '', ...argv], exitCode, message] of corpus) {
    const flags = command === 'train' ? [...engine, '--out', at('out')] : [];
    const result = await runCli(command, ...argv, ...flags);
    assert.match(result.stderr, message);
    assert.is(result.exitCode, exitCode, result.stderr);
    assert.is(result.stderr.trim().split('\n').length, 1);
    assert.is(result.stdout, '');
  }
  assert.equal(existsSync(at('out')), false);
});

test('--check holds the log to an earlier one', async () => {
  const { text, config } = files();
  const run = ['train', '--config', config, '--data', text, '--steps', '2', '--batch', '1', '--length', '16'];
  const first = await runCli(...run, ...engine, '--out', at('first'));
  assert.is(first.exitCode, 0, first.stderr);
  const baseline = at('first/train.csv');
  const same = await runCli(...run, ...engine, '--out', at('second'), '--check', baseline);
  assert.is(same.exitCode, 0, same.stderr);
  const lines = readFileSync(baseline, 'utf8').replace(/\n1,(\d+),\d\./, '\n1,$1,1.');
  writeFileSync(at('better.csv'), lines);
  const worse = await runCli(...run, ...engine, '--out', at('third'), '--check', at('better.csv'));
  assert.is(worse.exitCode, 1);
  assert.match(worse.stderr, /regression: .*loss \d+\.\d+, was 1\./);
  const tolerated = await runCli(
    ...[...run, ...engine, '--out', at('third'), '--check', at('better.csv'), '--tolerance', '900'],
  );
  assert.is(tolerated.exitCode, 0, tolerated.stderr);
});

test('a held-out loss that is not finite ends training with status 1, with all steps kept', async () => {
  const { text, config } = files();
  const common = ['--steps', '1', '--batch', '1', '--length', '16', '--data', text, ...engine];
  await runCli('train', '--config', config, ...common, '--out', at('run'));
  await runCli('convert', at('run'), at('damaged'), '--to', 'yoco', '--quiet');
  // The embedding of a byte that only the held-out text has.
  const path = at('damaged/model.safetensors');
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { shape: number[]; data_offsets: number[] }
  >;
  const { shape = [], data_offsets: [from = 0] = [] } = header['embed_tokens.weight'] ?? {};
  bytes.writeFloatLE(NaN, 8 + headerBytes + from + 'Z'.charCodeAt(0) * (shape[1] ?? 0) * 4);
  writeFileSync(path, bytes);
  writeFileSync(at('held.txt'), 'Zzz. '.repeat(40));
  const damaged = ['--checkpoint', at('damaged'), '--held-out', at('held.txt'), '--out', at('again')];
  const { stderr, exitCode } = await runCli('train', ...damaged, ...common);
  assert.is(exitCode, 1);
  assert.match(stderr, /1 of the steps have losses that are not finite: held_out_loss is not finite/);
  assert.match(readFileSync(at('again/train.csv'), 'utf8'), /\n1,.*,error,held_out_loss is not finite/);
});

test.run();
