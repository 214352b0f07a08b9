/** The table of docs/rivals.md, computed from the committed tables: `node --import tsx test/docs/rivals-table.ts` prints it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../src/package-root.js';
import { readResultRows } from '../../src/results/read.js';
import type { Row } from '../../src/results/schema.js';
import { mean } from '../../src/sweep/statistics.js';

interface Rival {
  readonly label: string;
  readonly architecture: string;
  readonly selfDecoder: string | null;
}

const rival = (label: string, architecture: string, selfDecoder: string | null = null): Rival => ({
  ...{ label, architecture, selfDecoder },
});

const RIVALS: readonly Rival[] = [
  rival('Transformer', 'transformer'),
  rival('GQA', 'gqa'),
  rival('MQA', 'mqa'),
  rival('CLA', 'cla'),
  rival('YOCO, sliding window', 'yoco', 'sliding-window'),
  rival('YOCO, gated retention', 'yoco', 'gated-retention'),
  rival('YOCO, Mamba-2', 'yoco', 'mamba-2'),
  rival('YOCO, Gated DeltaNet', 'yoco', 'gated-delta-net'),
  rival('SambaY', 'sambay'),
  rival('Mamba-2 and attention', 'interleaved', 'mamba-2'),
  rival('gated retention', 'gretnet'),
  rival('Mamba-2', 'mamba2'),
  rival('Gated DeltaNet', 'gated-deltanet'),
];

const NOT_RUN = 'not run';
const CONTEXT = 65536;

/** A committed table; none of its rows where it has not been measured. */
function rowsOf(...path: readonly string[]): Row[] {
  const file = join(packageRoot, 'results', ...path);
  return existsSync(file) ? readResultRows(file) : [];
}

const isOf = ({ architecture, selfDecoder }: Rival, row: Row): boolean =>
  row.architecture === architecture && (selfDecoder === null || row.self_decoder === selfDecoder);

const shown = (value: unknown, digits: number): string =>
  typeof value === 'number'
    ? value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
    : NOT_RUN;

/** `yoco sliding-window-1024`, `sambay sliding-window-1024`: variants name the window, in SambaY too. */
function lossRow({ architecture, selfDecoder }: Rival): Row | undefined {
  const mixer = architecture === 'sambay' ? 'sliding-window' : selfDecoder;
  const variant = mixer === null ? architecture : `${architecture} ${mixer}`;
  return rowsOf('quality', 'layouts', 'comparison.csv').find(
    (row) => row.source === 'all' && String(row.variant).replace(/(sliding-window)-\d+$/, '$1') === variant,
  );
}

/** The mean over seeds of the best learning rate: the one with the highest mean over both cells. */
function recall(one: Rival): (number | null)[] {
  const cells = [
    { length: 256, items: 64 },
    { length: 1024, items: 256 },
  ];
  const rows = rowsOf('recall-rivals', 'eval-recall.csv').filter((row) => isOf(one, row));
  const rates = [...new Set(rows.map(({ model }) => String(model).replace(/-seed\d+$/, '')))];
  const means = rates.map((rate) =>
    cells.map(({ length, items }) => {
      const alike = rows.filter((row) => row.length === length && row.items === items);
      return mean(
        alike
          .filter(({ model }) => String(model).startsWith(`${rate}-seed`))
          .map(({ accuracy }) => Number(accuracy)),
      );
    }),
  );
  return means.sort((a, b) => mean(b) - mean(a))[0] ?? cells.map(() => null);
}

/** Share of needles found, a figure for each seed that was trained. */
function needles({ architecture, selfDecoder }: Rival, test: 'single' | 'several', context: number): string {
  if (architecture !== 'yoco') return NOT_RUN;
  const found = [1, 2].map((seed) =>
    rowsOf('needle-rivals', `${selfDecoder ?? ''}-seed${seed}`, test, 'needle-contexts.csv').find(
      (row) => row.context === context,
    ),
  );
  const shares = found.flatMap((row) => (row === undefined ? [] : [shown(row.accuracy, 2)]));
  return shares.length > 0 ? shares.join(', ') : NOT_RUN;
}

function cost(one: Rival, table: string, column: string): unknown {
  const isRow = (row: Row): boolean => isOf(one, row) && row.context === CONTEXT;
  return rowsOf('rivals-cost-cuda', table).find(isRow)?.[column];
}

const HEAD = [
  ...['architecture', 'loss', 'AR-Hit', 'recall, 256', 'recall, 1,024', 'needle, 1M', '8M'],
  ...['one of eight, 1M', '8M', 'cache, bytes a token', 'prefill, tokens/s', 'decoding, tokens/s'],
];

function cells(one: Rival): string[] {
  const loss = lossRow(one);
  const [short, long] = recall(one);
  const million = 1024 * 1024;
  return [
    one.label,
    shown(loss?.loss, 3),
    shown(loss?.ar_hit_loss, 3),
    shown(short, 3),
    shown(long, 3),
    needles(one, 'single', million),
    needles(one, 'single', 8 * million),
    needles(one, 'several', million),
    needles(one, 'several', 8 * million),
    shown(cost(one, 'profile-memory.csv', 'kv_bytes_per_token'), 0),
    shown(cost(one, 'profile-prefill.timings.csv', 'tokens_per_second'), 0),
    shown(cost(one, 'profile-throughput.timings.csv', 'tokens_per_second'), 1),
  ];
}

/** Head and rows, the rule between them left out. */
export const rivalsTable = (): string[][] => [HEAD, ...RIVALS.map(cells)];

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [head, ...rows] = rivalsTable().map((row) => `| ${row.join(' | ')} |`);
  process.stdout.write(`${[head, `| --- |${' ---: |'.repeat(HEAD.length - 1)}`, ...rows].join('\n')}\n`);
}
