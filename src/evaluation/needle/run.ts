/** The needle test over contexts, depths, needles and trials, for several models. */
import type { ModelKey } from '../../sweep/model-key.js';
import { formatTokenCount } from '../../results/display.js';
import type { Corpus } from '../../data/corpus.js';
import { Haystack } from '../../data/needle/haystack.js';
import type { NeedleVariant } from '../../data/needle/templates.js';
import { SOLO } from '../../distributed/communicator.js';
import { RunError, UsageError } from '../../errors.js';
import { mean } from '../../sweep/statistics.js';
import { planOf } from '../../sweep/sweep.js';
import type { DerivedTable } from '../../results/derived.js';
import { CellTable, cellOf, rowOf } from '../../results/typed.js';
import { ResultWriter } from '../../results/writer.js';
import { remarkContext, weightsCell } from '../candidates.js';
import {
  cellKey,
  contextKey,
  groupTrials,
  isMeasured,
  summarizeTrials,
  type MeasuredTrial,
  type NeedleAccuracy,
  type NeedleCellFigures,
  type NeedleCellKey,
  type NeedleContextKey,
  type NeedleTrial,
  type NeedleTrialKey,
  type TrialFigures,
} from './cells.js';
import { NEEDLE_CELLS, NEEDLE_CONTEXTS, NEEDLE_TRIALS } from './tables.js';
import {
  checkMemory,
  measureTrials,
  type NeedleMeasuring,
  type Part,
  promptOf,
  type TrialTable,
} from './measure.js';
import { engineIdentity, type Session } from '../session.js';

export interface NeedleRun extends Session, NeedleMeasuring {
  readonly haystack: Corpus;
  readonly contexts: readonly number[];
  readonly depths: readonly number[];
  readonly needles: readonly number[];
  readonly variants: readonly NeedleVariant[];
  readonly trials: number;
  /** Where the tables are written. */
  readonly directory: string;
  /** Keep the trials that an earlier run has measured. */
  readonly resume: boolean;
}

export interface NeedleResults {
  /** Every trial, in the order of the plan. */
  readonly trials: readonly NeedleTrial[];
  /** The table of cells and that of trials, to be closed. */
  readonly writers: readonly [cells: ResultWriter, trials: ResultWriter];
  /** All depths together. */
  readonly contexts: DerivedTable;
}

/** Prompts of one run. */
const MOST_TRIALS = 100_000;
/** Points by which a needle may miss its depth without a remark. */
const OFF = 5;

/**
 * @throws UsageError for a context that is too short for the prompt, RunError when no cell fits the memory; both before
 *   any work. Cells that do not fit beside others that do are failed rows.
 */
export async function runNeedle(run: NeedleRun): Promise<NeedleResults> {
  checkSize(run);
  checkRanks(run);
  const parts = planParts(run);
  checkPrompts(run, parts);
  const trialWriter = openTrials(run, parts);
  const table: TrialTable = new CellTable(NEEDLE_TRIALS, trialWriter);
  checkMemory(run, parts, table);
  await measureTrials(run, parts, table);
  const trials = table.cells;
  const weightsOf = weightsByModel(parts);
  return {
    trials,
    writers: [writeCells(run, trials, weightsOf), trialWriter],
    contexts: contextTable(trials.filter(isMeasured), weightsOf),
  };
}

const modelText = ({ model, architecture, selfDecoder }: ModelKey): string =>
  JSON.stringify([model, architecture, selfDecoder]);

function openTrials(
  { engine, seed, provenance, resume, directory, haystack }: NeedleRun,
  parts: readonly Part[],
): ResultWriter {
  const settings = new Map(parts.map(({ candidate }) => [modelText(candidate.key), candidate.settings]));
  return ResultWriter.open(directory, NEEDLE_TRIALS, {
    settings: (row) => ({
      model: settings.get(modelText(cellOf<NeedleTrialKey, TrialFigures>(NEEDLE_TRIALS, row))) ?? null,
      haystack: haystack.sha256,
      engine: engineIdentity(engine),
      seed,
    }),
    provenance,
    resume,
    plan: planOf(parts).map((key) => rowOf(NEEDLE_TRIALS, key)),
  });
}

type WeightsOf = (key: ModelKey) => Pick<NeedleAccuracy, 'weights'>;

function weightsByModel(parts: readonly Part[]): WeightsOf {
  const weights = new Map(parts.map(({ candidate }) => [modelText(candidate.key), weightsCell(candidate)]));
  return (key) => {
    const known = weights.get(modelText(key));
    if (known === undefined) throw new Error('a model outside the plan');
    return known;
  };
}

/** What is derived from the trials is derived anew each time. */
function writeCells(
  { directory, seed, provenance, resume }: NeedleRun,
  trials: readonly NeedleTrial[],
  weightsOf: WeightsOf,
): ResultWriter {
  const writer = ResultWriter.open(directory, NEEDLE_CELLS, {
    settings: { seed },
    provenance,
    resume: false,
    keepOthers: resume,
  });
  const table = new CellTable<NeedleCellKey, NeedleCellFigures>(NEEDLE_CELLS, writer);
  for (const { key, trials: group } of groupTrials(trials, cellKey)) {
    const failed = group.find((trial) => !isMeasured(trial));
    if (failed) {
      table.fail(key, new RunError(failed.error));
      continue;
    }
    const measured = group.filter(isMeasured);
    const placedDepth = mean(measured.map((trial) => trial.placedDepth));
    table.append({ ...key, ...weightsOf(key), ...summarizeTrials(measured), placedDepth });
  }
  return writer;
}

function contextTable(trials: readonly MeasuredTrial[], weightsOf: WeightsOf): DerivedTable {
  const cells = groupTrials(trials, contextKey).map(
    ({ key, trials: group }): NeedleContextKey & NeedleAccuracy => ({
      ...key,
      ...weightsOf(key),
      ...summarizeTrials(group),
    }),
  );
  const rows = cells.map((cell) => rowOf(NEEDLE_CONTEXTS, { ...cell, status: 'ok' }));
  return { schema: NEEDLE_CONTEXTS, rows };
}

/** @throws UsageError for more trials than a run could ever do */
function checkSize({ candidates, contexts, depths, needles, variants, trials }: NeedleRun): void {
  const grid = candidates.length * contexts.length * depths.length * needles.length * variants.length;
  if (grid * trials <= MOST_TRIALS) return;
  throw new UsageError(
    `${trials} trials of each of ${grid} cells are ${grid * trials} prompts: at most ` +
      `${MOST_TRIALS.toLocaleString('en-US')} can be run at once`,
  );
}

/** @throws UsageError for trials together where each is divided over ranks */
function checkRanks({ communicator = SOLO, batch = 1 }: NeedleRun): void {
  if (communicator.size === 1 || batch === 1) return;
  throw new UsageError(
    '--batch needs prompts that are not divided over ranks: leave out --context-parallel, or --batch',
  );
}

/** Makes every prompt once, so that what cannot be asked is refused now, and says where needles are not where they should be. */
function checkPrompts(run: NeedleRun, parts: readonly Part[]): void {
  let [count, farthest, line] = [0, OFF, ''];
  for (const part of parts) {
    for (const key of part.keys) {
      const { placedDepth: placed, task } = promptOf(run, part, key);
      const off = Math.abs(placed - task.depth);
      if (off > OFF) count += 1;
      if (off <= farthest) continue;
      farthest = off;
      line = `${task.depth} % of ${formatTokenCount(task.context)} tokens is ${placed.toFixed(1)} %`;
    }
    remarkContext(run.note, part.candidate, Math.max(...run.contexts));
  }
  if (count === 0) return;
  run.note(
    `warning: needles more than ${OFF} points from their depth: ${count}, since ${run.haystack.name} has few ends of ` +
      `sentences: ${line} at worst; column placed_depth has the depths reached`,
  );
}

function planParts(run: NeedleRun): Part[] {
  const haystacks = new Map<string, Haystack>();
  return run.candidates.map((candidate) => {
    const { tokenizer, choice } = candidate;
    const haystack = haystacks.get(tokenizer.name) ?? Haystack.fromCorpus(run.haystack, tokenizer);
    haystacks.set(tokenizer.name, haystack);
    const keys: NeedleTrialKey[] = [];
    for (const variant of run.variants) {
      for (const needles of run.needles) {
        for (const context of run.contexts) {
          for (const depth of run.depths) {
            for (let trial = 0; trial < run.trials; trial++) {
              keys.push({
                ...candidate.key,
                haystack: haystack.name,
                variant,
                needles,
                context,
                depth,
                trial,
              });
            }
          }
        }
      }
    }
    return { candidate, choice, haystack, keys, open: () => candidate.open() };
  });
}
