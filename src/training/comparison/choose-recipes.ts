/** The best recipe of each architecture at each size, and its runs over seeds. */
import { greatest, mean } from '../../sweep/statistics.js';
import { ALL_SOURCES, type RunRow } from './runs-table.js';

/** Runs of one architecture and size by its best recipe, on one text. */
export interface Choice {
  /** Of the first run: what it is and how it was trained is the same for all. */
  readonly row: RunRow;
  /** One for each seed. */
  readonly seeds: readonly SeedLosses[];
  /** Recipes tried. */
  readonly recipes: number;
}

/** Means over the runs of a seed: a run may have been done twice. */
export interface SeedLosses {
  readonly loss: number;
  readonly arHitLoss: number | null;
  readonly firstOccurLoss: number | null;
  readonly bitsPerByte: number;
}

export function groupBy<Item>(items: readonly Item[], key: (item: Item) => unknown): Item[][] {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const name = JSON.stringify(key(item));
    groups.set(name, [...(groups.get(name) ?? []), item]);
  }
  return [...groups.values()];
}

/** Rows of runs whose losses compare: the same texts, length of sequences, tokens and size. */
export const settingOf = ({ data, length, tokens, size }: RunRow): readonly unknown[] => [
  data,
  length,
  tokens,
  size,
];

/**
 * Chooses among the recipes that have most seeds the one with the lowest mean loss on all held-out texts together: a recipe tried
 * once may be lucky. The same recipe then stands for the architecture on each text.
 * @returns in the order of the rows' settings, texts and architectures
 */
export function chooseRecipes(rows: readonly RunRow[]): Choice[] {
  return groupBy(rows, (row) => [settingOf(row), row.variant]).flatMap((group) => {
    const recipes = groupBy(overall(group), ({ recipe }) => recipe).map((runs) => ({
      recipe: runs[0]?.recipe,
      losses: bySeed(runs).map(({ loss }) => loss),
    }));
    const most = greatest(recipes.map(({ losses }) => losses.length));
    const best = recipes
      .filter(({ losses }) => losses.length === most)
      .map(({ recipe, losses }) => ({ recipe, loss: mean(losses) }))
      .reduce((least, other) => (other.loss < least.loss ? other : least));
    const chosen = group.filter(({ recipe }) => recipe === best.recipe);
    return groupBy(chosen, ({ source }) => source).flatMap((runs) => {
      const [row] = runs;
      return row === undefined ? [] : [{ row, seeds: bySeed(runs), recipes: recipes.length }];
    });
  });
}

/** Of each run the row of all texts together, which is its only one where there is one text. */
function overall(rows: readonly RunRow[]): RunRow[] {
  return groupBy(rows, ({ run }) => run).flatMap(
    (own) => own.find(({ source }) => source === ALL_SOURCES) ?? own.slice(0, 1),
  );
}

function bySeed(rows: readonly RunRow[]): SeedLosses[] {
  return groupBy(rows, ({ seed }) => seed).map((runs) => {
    const meanOf = (values: readonly (number | null)[]): number | null =>
      values.every((value) => value !== null) ? mean(values) : null;
    return {
      loss: mean(runs.map(({ loss }) => loss)),
      arHitLoss: meanOf(runs.map(({ arHitLoss }) => arHitLoss)),
      firstOccurLoss: meanOf(runs.map(({ firstOccurLoss }) => firstOccurLoss)),
      bitsPerByte: mean(runs.map(({ bitsPerByte }) => bitsPerByte)),
    };
  });
}
