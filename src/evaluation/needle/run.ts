/** The needle test over contexts, depths, needles and trials, for several models. */
import type { Progress, RunContext } from '../../sweep/run-context.js';
import { modelLabel } from '../../sweep/model-key.js';
import { formatTokenCount } from '../../results/display.js';
import type { Corpus } from '../../data/corpus.js';
import { Haystack } from '../../data/needle/haystack.js';
import type { NeedleVariant } from '../../data/needle/templates.js';
import { buildNeedlePrompt, type NeedlePrompt } from '../../data/needle/prompt.js';
import type { Engine } from '../../engines/engine.js';
import { RunError, UsageError } from '../../errors.js';
import { costs, defaultChunkSize } from '../../model/costs.js';
import { besideWeights, ELEMENT_BYTES, requireMemory } from '../../sweep/memory-budget.js';
import { planOf, sweepModels, type SweepPart } from '../../sweep/sweep.js';
import type { DerivedTable } from '../../results/derived.js';
import type { Row } from '../../results/schema.js';
import { ResultWriter } from '../../results/writer.js';
import { remarkContext, weightsCell, type Candidate } from '../candidates.js';
import {
  groupTrials,
  NEEDLE_CELLS,
  NEEDLE_CONTEXTS,
  NEEDLE_TRIALS,
  placedDepth,
  summarizeTrials,
} from './tables.js';
import { ANSWER_TOKENS, runTrial } from './trial.js';
import { engineIdentity, type Session } from '../session.js';

export interface NeedleRun extends Session {
  readonly haystack: Corpus;
  readonly contexts: readonly number[];
  readonly depths: readonly number[];
  readonly needles: readonly number[];
  readonly variants: readonly NeedleVariant[];
  readonly trials: number;
  readonly seed: number;
  readonly resume: boolean;
}

export interface NeedleTables {
  readonly cells: ResultWriter;
  readonly trials: ResultWriter;
  readonly contexts: DerivedTable;
}

/** Prompts of one run. */
const MOST_TRIALS = 100_000;
/** Points by which a needle may miss its depth without a remark. */
const OFF = 5;

interface Part extends SweepPart<Row> {
  readonly candidate: Candidate;
  readonly haystack: Haystack;
}

/**
 * @throws UsageError for a context that is too short for the prompt, RunError when no cell fits the memory; both before
 *   any work. Cells that do not fit beside others that do are rows that say so.
 */
export async function runNeedle(context: RunContext, run: NeedleRun): Promise<NeedleTables> {
  const { engine, seed, provenance, resume } = run;
  checkSize(run);
  const parts = planParts(run);
  checkPrompts(context, run, parts);
  const settings = new Map(parts.map(({ candidate }) => [JSON.stringify(candidate.key), candidate.settings]));
  const trials = ResultWriter.open(context.directory, NEEDLE_TRIALS, {
    settings: ({ model, architecture, self_decoder: selfDecoder }) => ({
      model: settings.get(JSON.stringify({ model, architecture, self_decoder: selfDecoder })) ?? null,
      haystack: run.haystack.sha256,
      engine: engineIdentity(engine),
      seed,
    }),
    ...{ provenance, resume, plan: planOf(parts) },
  });
  checkMemory(context, engine, parts, trials);
  await measure(context, run, parts, trials);
  // What is derived from the trials is derived anew each time.
  const cells = ResultWriter.open(context.directory, NEEDLE_CELLS, {
    settings: { seed },
    provenance,
    resume: false,
    keepOthers: resume,
  });
  const { rows } = trials;
  const weights = (key: Row): Row => weightsOf(parts, key);
  for (const { key, trials: group } of groupTrials(NEEDLE_CELLS, rows)) {
    const failed = group.find(({ status }) => status !== 'ok');
    if (failed) cells.fail(key, new RunError(String(failed.error)));
    else cells.append({ ...key, ...weights(key), ...placedDepth(group), ...summarizeTrials(group) });
  }
  const done = groupTrials(
    NEEDLE_CONTEXTS,
    rows.filter(({ status }) => status === 'ok'),
  );
  return {
    cells,
    trials,
    contexts: {
      schema: NEEDLE_CONTEXTS,
      rows: done.map(({ key, trials: group }) => ({
        ...key,
        ...weights(key),
        ...summarizeTrials(group),
        status: 'ok',
      })),
    },
  };
}

/** @throws UsageError for more trials than a run could ever do */
function checkSize({ candidates, contexts, depths, needles, variants, trials }: NeedleRun): void {
  const grid = candidates.length * contexts.length * depths.length * needles.length * variants.length;
  if (grid * trials <= MOST_TRIALS) return;
  throw new UsageError(
    `${trials} trials (--trials) of each of ${grid} cells are ${grid * trials} prompts: at most ` +
      `${MOST_TRIALS.toLocaleString('en-US')} can be run at once`,
  );
}

/** Makes every prompt once, so that what cannot be asked is refused now, and says where needles are not where they should be. */
function checkPrompts(context: RunContext, run: NeedleRun, parts: readonly Part[]): void {
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
    remarkContext(context.note, part.candidate, Math.max(...run.contexts));
  }
  if (count === 0) return;
  context.note(
    `warning: ${count} needles are more than ${OFF} points from their depth, since ${run.haystack.name} has few ends of ` +
      `sentences: ${line} at worst; column placed_depth has the depths reached`,
  );
}

function planParts(run: NeedleRun): Part[] {
  const haystacks = new Map<string, Haystack>();
  return run.candidates.map((candidate) => {
    const { tokenizer, choice } = candidate;
    const haystack = haystacks.get(tokenizer.name) ?? Haystack.fromCorpus(run.haystack, tokenizer);
    haystacks.set(tokenizer.name, haystack);
    const keys: Row[] = [];
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

function promptOf(
  run: NeedleRun,
  { haystack, candidate }: Pick<Part, 'haystack' | 'candidate'>,
  key: Row,
): NeedlePrompt {
  const task = {
    context: Number(key.context),
    depth: Number(key.depth),
    needles: Number(key.needles),
    variant: key.variant as NeedleVariant,
    trial: Number(key.trial),
    seed: run.seed,
  };
  return buildNeedlePrompt(task, haystack, candidate.tokenizer);
}

/** Bytes a trial takes beside the weights. */
function trialBytes({ choice: { config } }: Candidate, engine: Engine, context: number): number {
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const question = { context: context + ANSWER_TOKENS, bytesPerElement, chunk: defaultChunkSize(config) };
  return besideWeights(costs(config).inferenceMemory(question));
}

const trialName = ({ choice }: Candidate, context: number): string =>
  `a prompt of ${formatTokenCount(context)} tokens (${modelLabel(choice)})`;

/** Says before the work starts which contexts do not fit, and refuses when none does. */
function checkMemory(
  context: RunContext,
  engine: Engine,
  parts: readonly Part[],
  trials: ResultWriter,
): void {
  const refusals: RunError[] = [];
  let fitting = 0;
  for (const { candidate, keys } of parts) {
    const wanted = new Set(keys.filter((key) => !trials.has(key)).map((key) => Number(key.context)));
    const weights = costs(candidate.choice.config).weightBytes(ELEMENT_BYTES[engine.storage]);
    for (const length of wanted) {
      try {
        requireMemory(engine, weights + trialBytes(candidate, engine, length), trialName(candidate, length));
        fitting += 1;
      } catch (error) {
        if (!(error instanceof RunError)) throw error;
        refusals.push(error);
      }
    }
  }
  const [first] = refusals;
  if (first && fitting === 0) throw first;
  for (const { message } of refusals) context.note(`left out: ${message}`);
}

async function measure(
  context: RunContext,
  run: NeedleRun,
  parts: readonly Part[],
  trials: ResultWriter,
): Promise<void> {
  let progress: Progress | undefined;
  try {
    await sweepModels<Row, Row>({
      ...{ parts, engine: run.engine, seed: run.seed, table: trials },
      unitsOf: ({ context: length }) => Number(length),
      measure: ({ model, choice }, key, onTokens) => {
        const part = parts.find((candidate) => candidate.choice === choice);
        if (part === undefined) throw new Error('a model outside the plan');
        const length = Number(key.context);
        requireMemory(
          run.engine,
          trialBytes(part.candidate, run.engine, length),
          trialName(part.candidate, length),
        );
        return runTrial(promptOf(run, part, key), {
          ...{ model, tokenizer: part.candidate.tokenizer, engine: run.engine, onTokens },
        });
      },
      onProgress: ({ choice, key, done, total }) => {
        progress ??= context.progress({ label: 'needle', total, unit: 'tokens' });
        const length = formatTokenCount(Number(key.context));
        progress.note(`${modelLabel(choice)}, ${length}, depth ${String(key.depth)} %`);
        progress.update(done);
      },
    });
  } finally {
    progress?.stop();
  }
}

function weightsOf(parts: readonly Part[], key: Row): Row {
  const part = parts.find(({ candidate }) =>
    Object.entries(candidate.key).every(([name, value]) => key[name] === value),
  );
  return part ? weightsCell(part.candidate) : {};
}
