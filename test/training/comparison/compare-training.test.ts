import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { costs } from '../../../src/model/costs.js';
import { createConfig, type ConfigInput } from '../../../src/model/config.js';
import { readResultRows } from '../../../src/results/read.js';
import type { Row } from '../../../src/results/schema.js';
import { variantOf } from '../../../src/training/comparison/variant.js';
import { scratchDirectory } from '../../checkpoint/scratch.js';
import { runCli, type CliResult } from '../../cli/run.js';
import { SHAPE, TARGETS, writeRun } from './synthetic-runs.js';

const test = suite('compare-training');
const at = scratchDirectory(test);

const YOCO = { ...SHAPE, architecture: 'yoco' } as const;
const TRANSFORMER = { ...SHAPE, architecture: 'transformer' } as const;

const compare = (place: string, ...more: string[]): Promise<CliResult> =>
  runCli('compare-training', at(place), '--out', at(`${place}-out`), ...more);
const table = (place: string, name: string): Row[] => readResultRows(at(`${place}-out/${name}.csv`));

function near(found: unknown, expected: number, tolerance = 1e-6): void {
  assert.ok(
    typeof found === 'number' && Math.abs(found - expected) < tolerance,
    `${String(found)} ${expected}`,
  );
}

test('variants have the same name at every size', () => {
  const named = (input: ConfigInput): string => variantOf(createConfig({ ...SHAPE, ...input }));
  assert.is(named({ architecture: 'transformer' }), 'transformer');
  assert.is(named({ architecture: 'yoco' }), 'yoco gated-retention');
  assert.is(named({ architecture: 'yoco', layers: 8 }), 'yoco gated-retention');
  assert.is(named({ architecture: 'yoco', slidingWindow: 32 }), 'yoco sliding-window-32');
  assert.is(named({ architecture: 'transformer', slidingWindow: 32 }), 'transformer sliding-window-32');
  assert.is(named({ architecture: 'yoco', selfLayers: 3 }), 'yoco gated-retention 3:1');
  assert.is(named({ architecture: 'yoco', selfLayers: 2, layers: 8 }), 'yoco gated-retention 1:3');
  assert.is(named({ architecture: 'yoco', selfLayers: 0 }), 'yoco 0:1');
  assert.is(named({ architecture: 'unstacked-yoco' }), 'unstacked-yoco gated-retention');
  assert.is(named({ architecture: 'interleaved' }), 'interleaved gated-retention');
  assert.is(named({ architecture: 'retnet' }), 'retnet');
});

test('runs compare where texts and tokenizer have the same content, wherever they lie', async () => {
  const write = (name: string, tokenizer: string, hash: string | null): void => {
    writeRun(at(`tokenizers/${name}`), {
      config: YOCO,
      recipe: { tokenizer },
      inputs: { [`${name}/books`]: 'abc', ...(hash === null ? {} : { [`tokenizer: ${tokenizer}`]: hash }) },
      losses: () => ({ prose: 2 }),
    });
  };
  write('first', 'here/tokenizer.json', 'one');
  write('moved', 'there/tokenizer.json', 'one');
  write('changed', 'here/tokenizer.json', 'two');
  write('older', 'here/tokenizer.json', null);
  const { exitCode, stderr } = await compare('tokenizers');
  assert.is(exitCode, 0, stderr);
  const data = new Map(table('tokenizers', 'runs').map((row) => [row.run, row.data]));
  assert.is(data.get('moved'), data.get('first'));
  assert.is(new Set(data.values()).size, 3);
});

test('a row for each run and text, and one for all texts', async () => {
  writeRun(at('one/a/yoco'), {
    config: YOCO,
    preset: 'pico',
    recipe: { accumulate: 2, learningRate: 1e-3, seed: 7 },
    losses: () => ({ '2024': 3, prose: 2 }),
  });
  const { exitCode, stderr } = await compare('one', '--matmul-flops', '1e9');
  assert.is(exitCode, 0, stderr);
  const rows = table('one', 'runs');
  assert.equal(
    rows.map(({ run, source, loss }) => [run, String(source), loss]),
    [
      ['a/yoco', '2024', 3],
      ['a/yoco', 'prose', 2],
      ['a/yoco', 'all', 2.5],
    ],
  );
  const [, , all = {}] = rows;
  const cost = costs(createConfig(YOCO));
  const tokens = 3 * 2 * 2 * 16;
  const flops = cost.trainFlopsPerToken(16) * tokens;
  assert.equal(
    [all.model, all.variant, all.size, all.layout, all.tokens, all.batch_tokens, all.seed],
    ['pico', 'yoco gated-retention', '4x64', '2*gated-retention memory 2*cross', tokens, 64, 7],
  );
  assert.is(all.non_embedding_parameters, cost.parameters() - 2 * 64 * 264);
  assert.is(all.train_flops, flops);
  assert.is(all.targets, 2 * TARGETS);
  near(all.ar_hit_loss, 1.25);
  near(all.first_occur_loss, (2.5 - 1.25 / 4) / 0.75);
  near(all.bits_per_byte, 2.5 / Math.LN2 / 4);
  const [timing = {}] = readResultRows(at('one-out/runs.timings.csv'));
  assert.is(timing.tokens_per_second, 200);
  near(timing.mfu, flops / 1.5 / 1e9, 1e-4);
});

test('each architecture by its best recipe, with the gap to the Transformer', async () => {
  const losses = { transformer: [3, 3.1, 3.2], yoco: [2.9, 3, 2.95] };
  for (const [index, seed] of [1, 2, 3].entries()) {
    for (const [name, config] of [
      ['transformer', TRANSFORMER],
      ['yoco', YOCO],
    ] as const)
      // prettier-ignore
      writeRun(at(`best/${name}-${seed}`), {
        config,
        recipe: { seed, learningRate: 2e-3 },
        losses: () => ({ books: losses[name][index] ?? NaN }),
      });
  }
  // Lucky once, which does not count against three seeds; and other tokens, which do not compare.
  writeRun(at('best/lucky'), { config: YOCO, recipe: { learningRate: 1e-3 }, losses: () => ({ books: 1 }) });
  writeRun(at('best/longer'), { config: YOCO, recipe: { steps: 6 }, losses: () => ({ books: 0.5 }) });
  // The same run once more is no further seed.
  writeRun(at('best/again'), {
    config: YOCO,
    recipe: { seed: 3, learningRate: 2e-3 },
    losses: () => ({ books: 2.95 }),
  });
  const { exitCode, stderr, stdout } = await compare('best', '--format', 'csv');
  assert.is(exitCode, 0, stderr);
  assert.match(stdout, /^data,length,tokens,size,source,variant,/);
  const rows = table('best', 'comparison');
  assert.equal(
    rows.map(({ tokens, variant, seeds, recipes, learning_rate: rate }) => [
      tokens,
      variant,
      seeds,
      recipes,
      rate,
    ]),
    [
      [96, 'transformer', 3, 1, 2e-3],
      [96, 'yoco gated-retention', 3, 2, 2e-3],
      [192, 'yoco gated-retention', 1, 1, 2e-3],
    ],
  );
  const [transformer, yoco, longer] = rows;
  near(yoco?.loss, 2.95);
  near(yoco?.loss_error, 0.05 / Math.sqrt(3));
  near(transformer?.loss_error, 0.1 / Math.sqrt(3));
  near(yoco?.gap, -0.15);
  near(yoco?.gap_error, Math.sqrt((0.05 ** 2 + 0.1 ** 2) / 3));
  // Student's t, 2 degrees of freedom.
  near(yoco?.gap_high, -0.15 + 4.303 * Number(yoco?.gap_error), 1e-5);
  near(yoco?.ar_hit_loss, 2.95 / 2);
  assert.equal([transformer?.gap, longer?.gap, longer?.loss_error], [null, null, null]);
});

const WIDTHS = [32, 64, 128, 256];

function writeLadder(place: string, of: (parameters: number, seed: number) => number): void {
  for (const dim of WIDTHS) {
    for (const seed of [1, 2]) {
      writeRun(at(`${place}/${dim}-${seed}`), {
        config: { ...YOCO, dim, hiddenDim: 3 * dim },
        recipe: { seed },
        losses: (parameters) => ({ books: of(parameters, seed) }),
      });
    }
  }
}

test('the exponent of a known power law is recovered, with an interval around it', async () => {
  // Seeds differ by a thousandth to each side: their geometric mean is the law.
  writeLadder('ladder', (n, seed) => (8.8e13 / n) ** 0.076 * Math.exp(seed === 1 ? 1e-3 : -1e-3));
  const { exitCode, stderr } = await compare('ladder');
  assert.is(exitCode, 0, stderr);
  const rows = table('ladder', 'scaling');
  assert.equal(
    rows.map(({ against, form, sizes, runs }) => [against, form, sizes, runs]),
    ['parameters', 'flops'].flatMap((against) =>
      ['kaplan', 'chinchilla'].map((form) => [against, form, 4, 8]),
    ),
  );
  const [kaplan] = rows;
  near(kaplan?.exponent, 0.076, 1e-5);
  near(Number(kaplan?.kaplan_scale) / 8.8e13, 1, 1e-2);
  assert.ok(Number(kaplan?.exponent_low) < 0.076 && Number(kaplan?.exponent_high) > 0.076);
  assert.ok(Number(kaplan?.exponent_high) - Number(kaplan?.exponent_low) < 2e-3);
  const again = readFileSync(at('ladder-out/scaling.csv'), 'utf8');
  await compare('ladder');
  assert.is(readFileSync(at('ladder-out/scaling.csv'), 'utf8'), again, 'the same runs give the same file');
});

test('the form of Chinchilla finds the floor; three sizes are not fitted', async () => {
  writeLadder('floor', (n) => 1.69 + 40 / n ** 0.3);
  await compare('floor');
  const law = table('floor', 'scaling')[1];
  near(law?.exponent, 0.3, 1e-4);
  near(law?.floor, 1.69, 1e-3);
  near(law?.coefficient, 40, 0.1);
  for (const seed of [1, 2]) rmSync(at(`floor/32-${seed}`), { recursive: true });
  await compare('floor');
  assert.not.ok(existsSync(at('floor-out/scaling.csv')));
});

test('runs that are not finished are rows with the reason, and the command fails', async () => {
  const losses = (): Record<string, number> => ({ books: 3 });
  writeRun(at('some/done'), { config: YOCO, losses });
  writeRun(at('some/stopped'), { config: YOCO, recipe: { steps: 5 }, steps: 2, losses });
  writeRun(at('some/untested'), { config: YOCO, losses });
  rmSync(at('some/untested/held-out.csv'));
  writeRun(at('some/odd'), { config: YOCO, losses });
  writeFileSync(at('some/odd/train.run.json'), '{"configuration":{"model":{"dim":0},"recipe":{}}}');
  const { exitCode, stderr } = await compare('some');
  assert.is(exitCode, 1);
  assert.match(stderr, /stopped is left out: not finished: step 2 of 5\n/);
  const errors = new Map(table('some', 'runs').map(({ run, error }) => [run, error]));
  assert.is(errors.get('done'), null);
  assert.is(errors.get('stopped'), 'not finished: step 2 of 5');
  assert.is(errors.get('untested'), 'there is no held-out.csv');
  assert.match(String(errors.get('odd')), /train\.run\.json: configuration: dim must be/);
  assert.is(table('some', 'comparison').length, 1);
});

test('what cannot be compared is refused in a line', async () => {
  const refused = async (argv: string[], exitCode: number, line: RegExp): Promise<void> => {
    const result = await runCli('compare-training', ...argv, '--out', at('refused'));
    assert.match(result.stderr, line);
    assert.is(result.exitCode, exitCode);
  };
  await refused([at('nowhere')], 2, /there is no directory/);
  writeRun(at('left/run'), { config: YOCO, losses: () => ({ books: 3 }) });
  await refused([at('left'), at('left')], 2, /two runs are called 'left\/run'/);
  await refused([at('left'), '--matmul-flops', '-1'], 2, /'-1' is not a rate/);
  writeRun(at('unfinished/run'), { config: YOCO, steps: 1, losses: () => ({ books: 3 }) });
  await refused([at('unfinished')], 1, /none of 1 runs is finished: run: not finished: step 1 of 3/);
  writeFileSync(at('left/run/train.csv'), 'step,tokens\n3,50\n');
  await refused([at('left')], 1, /train.csv has 50 tokens, but its recipe comes to 96/);
});

test.run();
