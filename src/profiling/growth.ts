import { MODEL_COLUMNS } from '../sweep/model-key.js';
import type { DerivedTable } from '../results/derived.js';
import type { Row } from '../results/schema.js';
import { rowOf, type TableCell, type TableSchema } from '../results/typed.js';
import type { PrefillFigures, PrefillKey } from './prefill.js';
import { growthExponent } from '../sweep/statistics.js';
import { EARLY_EXIT_COLUMN } from './tables.js';

type GrowthKey = Omit<PrefillKey, 'context'>;

interface GrowthFigures {
  readonly fromContext: number;
  readonly toContext: number;
  readonly growthExponent: number;
}

const GROWTH_SCHEMA: TableSchema<GrowthKey, GrowthFigures> = {
  name: 'profile-prefill-growth',
  columns: [
    ...MODEL_COLUMNS,
    EARLY_EXIT_COLUMN,
    { name: 'from_context', kind: 'timing', description: 'shortest context of the fit', display: 'count' },
    { name: 'to_context', kind: 'timing', description: 'longest context of the fit', display: 'count' },
    {
      name: 'growth_exponent',
      kind: 'timing',
      description: 'p of seconds ~ context^p, least squares on logarithms: 1 linear, 2 quadratic',
      digits: 3,
      better: 'lower',
    },
  ],
};

/** How the time of each model grows with context. */
export function growthTable(cells: readonly TableCell<PrefillKey, PrefillFigures>[]): DerivedTable {
  const measured = cells.filter((cell) => cell.status === 'ok');
  const identity = ({ model, architecture, selfDecoder, earlyExit }: GrowthKey): string =>
    JSON.stringify([model, architecture, selfDecoder, earlyExit]);
  const groups = [...new Set(measured.map(identity))].map((name) =>
    measured.filter((cell) => identity(cell) === name),
  );
  return { schema: GROWTH_SCHEMA, rows: groups.flatMap((group) => fitOf(group)) };
}

/** The row of one model; none where a single context was measured. */
function fitOf(cells: readonly (PrefillKey & PrefillFigures)[]): Row[] {
  const [first] = cells;
  const exponent = growthExponent(cells.map(({ context, secondsMedian }) => [context, secondsMedian]));
  if (first === undefined || exponent === null) return [];
  const contexts = cells.map(({ context }) => context);
  const { model, architecture, selfDecoder, earlyExit } = first;
  const fit = {
    model,
    architecture,
    selfDecoder,
    earlyExit,
    fromContext: Math.min(...contexts),
    toContext: Math.max(...contexts),
    growthExponent: exponent,
    status: 'ok',
  };
  return [rowOf(GROWTH_SCHEMA, fit)];
}
