import { existsSync, readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { runCli } from '../cli/run.js';
import { SHAPE, writeRun } from '../training/comparison/synthetic-runs.js';

const test = suite('report/training-comparison');
const at = scratchDirectory(test);

const RATES = [5e-4, 1e-3, 2e-3];

test('a page of recipes, losses and scaling', async () => {
  for (const architecture of ['transformer', 'yoco'] as const) {
    const better = architecture === 'yoco' ? 0.97 : 1;
    for (const [index, dim] of [32, 64, 128, 256].entries()) {
      for (const seed of [1, 2]) {
        for (const learningRate of index === 0 ? RATES : [1e-3]) {
          writeRun(at(`runs/${architecture}-${dim}-${seed}-${learningRate}`), {
            config: { ...SHAPE, architecture, dim, hiddenDim: 3 * dim },
            recipe: { seed, learningRate },
            losses: (n) => {
              const loss =
                better * (1e13 / n) ** 0.08 * (1 + 2e-3 * seed) + (learningRate === 1e-3 ? 0 : 0.1);
              return { books: loss, prose: loss + 1 };
            },
          });
        }
      }
    }
  }
  await runCli('compare-training', at('runs'), '--out', at('runs'));
  const { exitCode, stderr } = await runCli('report', at('runs'));
  assert.is(exitCode, 0, stderr);
  const html = readFileSync(at('runs/report.html'), 'utf8');
  assert.match(html, /<h2 id="quality-of-the-architectures">Quality of the architectures<\/h2>/);
  // A chart for each text and for all together.
  for (const name of ['quality-scaling', 'quality-scaling-2', 'quality-scaling-3', 'quality-recipes']) {
    assert.ok(existsSync(at(`runs/figures/${name}.svg`)), name);
  }
  assert.not.ok(existsSync(at('runs/figures/training.svg')), 'sixty curves are no picture');
  const recipes = readFileSync(at('runs/figures/quality-recipes.svg'), 'utf8');
  assert.match(recipes, /Loss against learning rate: all held-out texts \(4x32 /);
  assert.match(recipes, /yoco gated-retention, official: [\d.]+ at 5\.00e-4, [\d.]+ at 0\.002/);
  const scaling = readFileSync(at('runs/figures/quality-scaling.svg'), 'utf8');
  assert.match(scaling, /Loss against size: books/);
  // The fitted curves: dashed lines of two architectures.
  assert.is(scaling.match(/stroke-dasharray/g)?.length, 2);
  assert.match(html, /<td>transformer<\/td><td>lr 0\.001, official, decay 0\.1<\/td>/);
  assert.match(
    html,
    /<td>kaplan<\/td><td class="number">4<\/td><td class="number">0\.08 \(0\.0\d+ to 0\.0\d+\)/,
  );
});

test.run();
