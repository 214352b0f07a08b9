/** From the tables of training runs to the curves of the live page. */
import { createHash } from 'node:crypto';
import { formatNumber } from '../../results/display.js';
import type { Row } from '../../results/schema.js';
import { greatest } from '../../sweep/statistics.js';
import { seriesStyles } from '../colors.js';
import { meansOfStretches, numberIn, textIn } from '../tables.js';
import type { LiveRun, LiveRuns } from './runs.js';
import type { Abscissa, Curve, LiveChart, RunSummary, View } from './view.js';

/** What is drawn of the steps of a run. Columns after the first are drawn dashed. */
const CHARTS: readonly { title: string; unit: string; columns: readonly string[] }[] = [
  { title: 'Loss', unit: 'nats per token', columns: ['loss', 'held_out_loss'] },
  { title: 'Loss of answers', unit: 'nats per token', columns: ['answer_loss', 'held_out_answer_loss'] },
  { title: 'Bits per byte', unit: '', columns: ['bits_per_byte'] },
  { title: 'Speed', unit: 'tokens/s', columns: ['tokens_per_second'] },
  { title: 'Gradient norm', unit: 'L2 norm before clipping', columns: ['gradient_norm'] },
  { title: 'Learning rate', unit: '', columns: ['learning_rate'] },
  { title: 'Model FLOP/s utilization', unit: 'share of the rate of matmuls', columns: ['mfu'] },
];

const ABSCISSAS: readonly Abscissa[] = ['tokens', 'steps', 'hours'];
const SECONDS_PER_HOUR = 3600;

/** A step with its timings, and where it stands on every abscissa. */
interface Step {
  readonly row: Row;
  readonly at: Readonly<Record<Abscissa, number | null>>;
}

function stepsOf({ steps, timings }: LiveRun): Step[] {
  const timingOf = new Map(timings.rows.map((row) => [row.step, row]));
  let seconds = 0;
  return steps.rows.map((result) => {
    const timing = timingOf.get(result.step ?? null);
    const row = { ...timing, ...result };
    seconds += numberIn(row, 'seconds') ?? 0;
    const hours = timing === undefined ? null : seconds / SECONDS_PER_HOUR;
    return { row, at: { tokens: numberIn(row, 'tokens'), steps: numberIn(row, 'step'), hours } };
  });
}

function curveOf(steps: readonly Step[], column: string, x: Abscissa): [number, number][] {
  return steps.flatMap(({ row, at }): [number, number][] => {
    const [place, value] = [at[x], numberIn(row, column)];
    return place === null || value === null ? [] : [[place, value]];
  });
}

interface Drawn {
  readonly run: LiveRun;
  readonly steps: readonly Step[];
}

function stepCharts(drawn: readonly Drawn[], x: Abscissa, points: number): LiveChart[] {
  return CHARTS.map(({ title, unit, columns }) => ({
    id: columns[0] ?? title,
    title,
    unit,
    curves: drawn.flatMap(({ run, steps }) =>
      columns.map((column, index): Curve => {
        const all = curveOf(steps, column, x);
        if (index > 0) return { run: run.name, kind: 'held-out', points: all };
        return { run: run.name, kind: '', points: meansOfStretches(all, points) };
      }),
    ),
  }));
}

/** Loss on each held-out text; nothing where the mean in `train.csv` says the same. */
function heldOutCharts(drawn: readonly Drawn[], x: Abscissa): LiveChart[] {
  const rows = drawn.flatMap(({ run }) => run.heldOut.rows);
  const sources = [...new Set(rows.map((row) => textIn(row, 'source')))];
  if (sources.length < 2 && drawn.every(({ steps }) => steps.length > 0)) return [];
  return sources.map((source) => ({
    id: `held-out ${source}`,
    title: `Held-out loss: ${source === 'all' ? 'all texts' : source}`,
    unit: 'nats per token',
    curves: drawn.map(({ run, steps }): Curve => {
      const placeOf = new Map(steps.map((step) => [step.at.steps, step.at[x]]));
      const points = run.heldOut.rows
        .filter((row) => textIn(row, 'source') === source)
        .flatMap((row): [number, number][] => {
          const [step, loss] = [numberIn(row, 'step'), numberIn(row, 'loss')];
          const place = x === 'steps' ? step : (placeOf.get(step) ?? null);
          return place === null || loss === null ? [] : [[place, loss]];
        });
      return { run: run.name, kind: '', points };
    }),
  }));
}

const whole = (value: number): string => value.toLocaleString('en-US');

function summaryOf({ run, steps }: Drawn, color: string): RunSummary {
  const last = (column: string): number | null =>
    steps.map(({ row }) => numberIn(row, column)).findLast((value) => value !== null) ?? null;
  const heldOut = run.heldOut.rows.at(-1);
  const shown = (value: number | null, format = formatNumber): string =>
    value === null ? '–' : format(value);
  const changes = [run.steps.changedAt, run.heldOut.changedAt].filter((time) => time !== null);
  return {
    name: run.name,
    color,
    cells: {
      step: shown(last('step') ?? (heldOut === undefined ? null : numberIn(heldOut, 'step')), whole),
      tokens: shown(last('tokens'), whole),
      loss: shown(last('loss')),
      'held-out loss': shown(
        last('held_out_loss') ?? (heldOut === undefined ? null : numberIn(heldOut, 'loss')),
      ),
      'tokens/s': shown(last('tokens_per_second')),
    },
    changedAt: changes.length === 0 ? null : greatest(changes),
  };
}

export interface ViewOptions {
  /** Default: tokens, or steps where no run says its tokens. */
  readonly x?: Abscissa;
  /** Most points of a curve: each is the mean of as many steps as that takes. */
  readonly points: number;
}

/** What the page shows of the runs as they were at their last refresh. */
export function viewOf(runs: LiveRuns, { x: asked, points }: ViewOptions): View {
  const drawn = runs.runs.map((run) => ({ run, steps: stepsOf(run) }));
  const abscissas = ABSCISSAS.filter(
    (name) => name === 'steps' || drawn.some(({ steps }) => steps.some(({ at }) => at[name] !== null)),
  );
  const x = abscissas.find((name) => name === asked) ?? abscissas[0] ?? 'steps';
  const styles = seriesStyles(runs.runs.map(({ name }) => name));
  const charts = [...stepCharts(drawn, x, points), ...heldOutCharts(drawn, x)];
  return {
    version: `${runs.version}-${x}-${points}`,
    tables: createHash('sha256').update(runs.tables).digest('hex').slice(0, 16),
    x,
    abscissas,
    runs: drawn.map((one, index) => summaryOf(one, styles[index]?.color ?? '')),
    charts: charts.filter(({ curves }) => curves.some((curve) => curve.points.length > 0)),
    problems: runs.problems,
  };
}
