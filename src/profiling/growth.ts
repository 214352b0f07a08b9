import { MODEL_COLUMNS } from '../sweep/models.js';
import type { DerivedTable } from '../results/derived.js';
import { groupRowsBy } from '../results/group.js';
import type { Row, Schema } from '../results/schema.js';
import { growthExponent } from './statistics.js';
import { EARLY_EXIT_COLUMN } from './tables.js';

const GROWTH_SCHEMA: Schema = {
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
export function growthTable(rows: readonly Row[]): DerivedTable {
  const names = GROWTH_SCHEMA.columns.filter(({ kind }) => kind === 'key').map(({ name }) => name);
  const measured = rows.filter(({ status }) => status === 'ok');
  const fits = groupRowsBy(measured, names).map((group): Row => {
    const points = group.map((row) => [Number(row.context), Number(row.seconds_median)] as const);
    const contexts = points.map(([context]) => context);
    return {
      ...Object.fromEntries(names.map((name) => [name, group[0]?.[name] ?? null])),
      from_context: Math.min(...contexts),
      to_context: Math.max(...contexts),
      growth_exponent: growthExponent(points),
      status: 'ok',
    };
  });
  return { schema: GROWTH_SCHEMA, rows: fits.filter((row) => row.growth_exponent !== null) };
}
