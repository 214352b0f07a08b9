/** Directories as `yoco train` leaves them, with losses that a test chooses. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { costs } from '../../../src/model/costs.js';
import { createConfig, type ConfigInput } from '../../../src/model/config.js';
import { createRecipe, type RecipeInput } from '../../../src/training/recipe.js';
import { totalSteps } from '../../../src/training/task.js';

export interface SyntheticRun {
  readonly config: ConfigInput;
  readonly recipe?: RecipeInput;
  /** Held-out losses by text, given the non-embedding parameters. */
  readonly losses: (parameters: number) => Readonly<Record<string, number>>;
  /** Steps logged; default: all. */
  readonly steps?: number;
  readonly preset?: string;
  /** Hashes by name; default: one text. */
  readonly inputs?: Readonly<Record<string, string>>;
}

export const SHAPE = { dim: 64, layers: 4, hiddenDim: 192, heads: 2, vocabSize: 264 } as const;

export const TARGETS = 1000;

const csv = (lines: readonly (readonly (string | number)[])[]): string =>
  lines.map((line) => `${line.join(',')}\n`).join('');

export function writeRun(directory: string, run: SyntheticRun): void {
  const config = createConfig(run.config);
  const recipe = createRecipe({ steps: 3, batch: 2, length: 16, ...run.recipe });
  const steps = run.steps ?? totalSteps(recipe.stages);
  const { batch, length } = recipe.stages[0] ?? { batch: 0, length: 0 };
  const numbers = Array.from({ length: steps }, (_, index) => index + 1);
  const cost = costs(config);
  const losses = Object.entries(run.losses(cost.parameters() - cost.embeddingParameters));
  mkdirSync(directory, { recursive: true });
  const write = (name: string, text: string): void => {
    writeFileSync(join(directory, name), text);
  };
  write(
    'train.run.json',
    JSON.stringify({
      command: ['yoco', 'train'],
      flags: { preset: run.preset === undefined ? undefined : [run.preset] },
      engine: { name: 'cuda', storage: 'bfloat16' },
      inputs: run.inputs ?? { books: 'abc' },
      configuration: { model: config, recipe },
    }),
  );
  write(
    'train.csv',
    csv([
      ['step', 'tokens', 'loss'],
      ...numbers.map((step) => [step, step * batch * length * recipe.accumulate, 4]),
    ]),
  );
  write(
    'train.timings.csv',
    csv([['step', 'seconds', 'tokens_per_second'], ...numbers.map((step) => [step, 0.5, 100 * step])]),
  );
  write(
    'held-out.csv',
    csv([
      [
        ...['step', 'source', 'targets', 'loss', 'ar_hit_loss', 'first_occur_loss', 'ar_hit_share'],
        'bits_per_byte',
      ],
      // An earlier measurement is not the result.
      ...losses.map(([source]) => [1, source, TARGETS, 9, 9, 9, 0.25, 9]),
      ...losses.map(([source, loss]) => [
        ...[steps, source, TARGETS, loss, loss / 2, (loss - loss / 8) / 0.75, 0.25],
        loss / Math.LN2 / 4,
      ]),
    ]),
  );
}
