/** The table of docs/rivals.md, computed from the committed tables: `node --import tsx test/docs/rivals-table.ts` prints it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../src/package-root.js';
import { groupRows } from '../../src/results/group.js';
import { readResultRows } from '../../src/results/read.js';
import type { Row } from '../../src/results/schema.js';
import { greatest, mean } from '../../src/sweep/statistics.js';

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

interface RecallCell {
  readonly folder: string;
  readonly length: number;
  readonly items: number;
}

const SMALL_RECALL: RecallCell = { folder: 'recall-laptop', length: 256, items: 32 };
const RECALL: RecallCell = { folder: 'recall-rivals', length: 1024, items: 256 };

/** The mean over seeds of the best learning rate, for models that were trained with several. */
function recall(one: Rival, { folder, length, items }: RecallCell): number | undefined {
  const rows = rowsOf(folder, 'eval-recall.csv').filter(
    (row) => isOf(one, row) && row.length === length && row.items === items,
  );
  const trainings = groupRows(rows, ({ model }) => String(model).replace(/-seed\d+$/, ''));
  const means = [...trainings.values()].map((seeds) => mean(seeds.map(({ accuracy }) => Number(accuracy))));
  return means.length > 0 ? greatest(means) : undefined;
}

/** Folders with needle tests of the trained models of 1.8M parameters; the later ones where the first have none. */
const NEEDLES: readonly ((selfDecoder: string) => readonly string[])[] = [
  (selfDecoder) =>
    [1, 2].flatMap((seed) =>
      ['single', 'several'].map((test) => join('needle-rivals', `${selfDecoder}-seed${seed}`, test)),
    ),
  (selfDecoder) => {
    const suffix = selfDecoder === 'sliding-window' ? '-sliding-window' : '';
    return [`single${suffix}`, `several${suffix}`, 'beyond'].map((folder) => join('needle-cuda', folder));
  },
];

/** Share of needles found, a figure for each training. */
function needles(one: Rival, count: number, context: number): string {
  for (const foldersOf of NEEDLES) {
    const rows = foldersOf(one.selfDecoder ?? '')
      .flatMap((folder) => rowsOf(folder, 'needle-contexts.csv'))
      .filter((row) => isOf(one, row) && row.needles === count && row.context === context);
    const trainings = [...groupRows(rows, ({ model }) => String(model)).values()];
    // A test of several numbers of needles has one needle too: the test of it alone has more trials and stands first.
    if (rows.length > 0) return trainings.map(([row]) => shown(row?.accuracy, 2)).join(', ');
  }
  return NOT_RUN;
}

/** A cell at 64k tokens. */
const atContext = (one: Rival, column: string, ...path: readonly string[]): unknown =>
  rowsOf(...path).find((row) => isOf(one, row) && row.context === CONTEXT)?.[column];

const HEAD = [
  ...['architecture', 'loss', 'AR-Hit', 'recall, 0.12M', 'recall, 1.4M'],
  ...[
    'needle, 1M',
    '4M',
    '8M',
    'one of eight, 1M',
    'cache, bytes a token',
    'prefill, tokens/s',
    'decoding, tokens/s',
  ],
];

function cells(one: Rival): string[] {
  const loss = lossRow(one);
  const million = 1024 * 1024;
  return [
    one.label,
    shown(loss?.loss, 3),
    shown(loss?.ar_hit_loss, 3),
    shown(recall(one, SMALL_RECALL), 3),
    shown(recall(one, RECALL), 3),
    needles(one, 1, million),
    needles(one, 1, 4 * million),
    needles(one, 1, 8 * million),
    needles(one, 8, million),
    shown(atContext(one, 'kv_bytes_per_token', 'rivals-cost', '2.7b', 'profile-memory.csv'), 0),
    shown(atContext(one, 'tokens_per_second', 'rivals-cost-cuda', 'profile-prefill.timings.csv'), 0),
    shown(atContext(one, 'tokens_per_second', 'rivals-cost-cuda', 'profile-throughput.timings.csv'), 1),
  ];
}

/** Head and rows, the rule between them left out. */
export const rivalsTable = (): string[][] => [HEAD, ...RIVALS.map(cells)];

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [head, ...rows] = rivalsTable().map((row) => `| ${row.join(' | ')} |`);
  process.stdout.write(`${[head, `| --- |${' ---: |'.repeat(HEAD.length - 1)}`, ...rows].join('\n')}\n`);
}
