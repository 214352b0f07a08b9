/** How the loss of long documents falls with position: Fig. 5 of the paper calls it a power law. */
import type { DerivedTable } from '../../results/derived.js';
import { groupRowsBy } from '../../results/group.js';
import type { Column, Row, Schema } from '../../results/schema.js';
import { MODEL_COLUMNS } from '../../sweep/model-key.js';
import { PLAIN, relativeError, type Point } from '../../sweep/power-law.js';
import { estimateMean, greatest, least } from '../../sweep/statistics.js';
import { DOCUMENT_COLUMN, MEAN } from './tables.js';

/** Two determine the law and say nothing of whether there is one. */
const LEAST_POSITIONS = 3;

const count = (name: string, description: string): Column => ({
  ...{ name, description },
  ...{ kind: 'result', display: 'count' },
});

const PERPLEXITY_FIT_SCHEMA: Schema = {
  name: 'perplexity-fit',
  columns: [
    ...MODEL_COLUMNS,
    DOCUMENT_COLUMN,
    count('positions', 'fitted'),
    count('from_position', 'the first of them'),
    count('to_position', 'the last of them'),
    { name: 'exponent', kind: 'result', description: 'p of loss = c / position^p', digits: 6 },
    {
      name: 'exponent_error',
      kind: 'result',
      description: "standard error of the mean of the documents' exponents",
      digits: 6,
    },
    { name: 'coefficient', kind: 'result', description: 'c, nats per token', digits: 6 },
    {
      name: 'relative_error',
      kind: 'result',
      description: 'root mean square of the relative errors of the positions',
      digits: 6,
    },
  ],
};

/**
 * Fits loss = c / position^p to the cumulative losses of each document, by least squares on logarithms; of the means, to the
 * positions that all documents reach, so that each point is of the same documents. Neighbouring cumulative losses share most of
 * their tokens: the error over documents is the one to trust, not that of the fit.
 * @param rows of the table `perplexity`
 */
export function perplexityFits(rows: readonly Row[]): DerivedTable {
  const measured = rows.filter(({ status }) => status !== 'error');
  const models = groupRowsBy(
    measured,
    MODEL_COLUMNS.map(({ name }) => name),
  );
  return { schema: PERPLEXITY_FIT_SCHEMA, rows: models.flatMap(fitsOf) };
}

function fitsOf(rows: readonly Row[]): Row[] {
  const fits = groupRowsBy(
    rows.filter(({ document }) => document !== MEAN),
    ['document'],
  ).flatMap((own) => fitOf(own, null));
  const documents = new Set(rows.map(({ document }) => document).filter((document) => document !== MEAN))
    .size;
  const means = rows.filter((row) => row.document === MEAN && row.documents === documents);
  const exponents = fits.map(({ exponent }) => Number(exponent));
  const error = exponents.length === documents ? estimateMean(exponents).standardError : null;
  return [...fits, ...fitOf(means, error)];
}

/** None with too few positions. */
function fitOf(rows: readonly Row[], error: number | null): Row[] {
  const [first] = rows;
  const points = rows.map((row): Point => [Number(row.position), Number(row.loss)]);
  const law = points.length < LEAST_POSITIONS ? null : PLAIN.fit(points);
  if (first === undefined || law === null) return [];
  const positions = points.map(([position]) => position);
  const keys = [...MODEL_COLUMNS, DOCUMENT_COLUMN].map(({ name }) => [name, first[name] ?? null] as const);
  return [
    {
      ...Object.fromEntries(keys),
      positions: points.length,
      from_position: least(positions),
      to_position: greatest(positions),
      exponent: law.exponent,
      exponent_error: error,
      coefficient: law.coefficient,
      relative_error: relativeError(law, points),
      status: 'ok',
    },
  ];
}
