/** Measures trials of the needle test: one after the other, or those of a context together. */
import type { Haystack } from '../../data/needle/haystack.js';
import { buildNeedlePrompt, type NeedlePrompt } from '../../data/needle/prompt.js';
import { SOLO, type Communicator } from '../../distributed/communicator.js';
import type { Engine } from '../../engines/engine.js';
import { RunError } from '../../errors.js';
import { costs, defaultChunkSize } from '../../model/costs.js';
import { formatTokenCount } from '../../results/display.js';
import { groupRows } from '../../results/group.js';
import type { CellTable } from '../../results/typed.js';
import { besideWeights, ELEMENT_BYTES, requireMemory } from '../../sweep/memory-budget.js';
import { modelLabel, type ModelChoice } from '../../sweep/model-key.js';
import { sweepModels, type OpenModel, type SweepPart, type SweepProgress } from '../../sweep/sweep.js';
import type { Candidate } from '../candidates.js';
import { scoringBatch } from '../scoring/memory.js';
import type { NeedleTrialKey, TrialFigures } from './cells.js';
import { ANSWER_TOKENS, runTrial, runTrials, type TrialTools } from './trial.js';

/** How trials are measured. */
export interface NeedleMeasuring {
  readonly engine: Engine;
  readonly seed: number;
  /**
   * Trials of one context computed together at most; `auto`: as many as fit the memory; default 1. Answers do not depend on it.
   * Trials that are computed together have no times and no memory of their own.
   */
  readonly batch?: number | 'auto';
  readonly communicator?: Communicator;
  readonly onProgress?: (progress: SweepProgress<NeedleTrialKey>) => void;
  /** A remark for the person who waits. */
  readonly note: (line: string) => void;
}

export type TrialTable = CellTable<NeedleTrialKey, TrialFigures>;

export interface Part extends SweepPart<NeedleTrialKey> {
  readonly candidate: Candidate;
  readonly haystack: Haystack;
}

export function promptOf(
  { seed }: Pick<NeedleMeasuring, 'seed'>,
  { haystack, candidate }: Pick<Part, 'haystack' | 'candidate'>,
  { context, depth, needles, variant, trial }: NeedleTrialKey,
): NeedlePrompt {
  const spec = { context, depth, needles, variant, trial, seed };
  return buildNeedlePrompt(spec, haystack, candidate.tokenizer);
}

/** Bytes a trial takes beside the weights. */
function trialBytes(
  { engine, communicator = SOLO }: NeedleMeasuring,
  { choice: { config } }: Candidate,
  context: number,
): number {
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const { size: ranks } = communicator;
  const chunk = ranks * defaultChunkSize(config);
  const question = { context: context + ANSWER_TOKENS, bytesPerElement, chunk, ranks };
  return besideWeights(costs(config).inferenceMemory(question));
}

const trialName = ({ choice }: Candidate, context: number): string =>
  `a prompt of ${formatTokenCount(context)} tokens (${modelLabel(choice)})`;

/** Says before the work starts which contexts do not fit, and refuses when none does. */
export function checkMemory(run: NeedleMeasuring, parts: readonly Part[], table: TrialTable): void {
  const { engine, note } = run;
  const refusals: RunError[] = [];
  let fitting = 0;
  for (const { candidate, keys } of parts) {
    const missing = new Set(keys.filter((key) => !table.has(key)).map((key) => key.context));
    const weights = costs(candidate.choice.config).weightBytes(ELEMENT_BYTES[engine.storage]);
    for (const length of missing) {
      try {
        requireMemory(engine, weights + trialBytes(run, candidate, length), trialName(candidate, length));
        fitting += 1;
      } catch (error) {
        if (!(error instanceof RunError)) throw error;
        refusals.push(error);
      }
    }
  }
  const [first] = refusals;
  if (first && fitting === 0) throw first;
  for (const { message } of refusals) note(`left out: ${message}`);
}

/** Measures what the table does not have. */
export async function measureTrials(
  run: NeedleMeasuring,
  parts: readonly Part[],
  table: TrialTable,
): Promise<void> {
  const { engine, seed, onProgress, batch = 1, communicator } = run;
  const partOf = new Map<ModelChoice, Part>(parts.map((part) => [part.choice, part]));
  const found = (choice: ModelChoice): Part => {
    const part = partOf.get(choice);
    if (part === undefined) throw new Error('a model outside the plan');
    return part;
  };
  const toolsFor = ({ model, choice }: OpenModel, onTokens: (done: number) => void): TrialTools => ({
    ...{ model, engine, communicator, onTokens, tokenizer: found(choice).candidate.tokenizer },
  });
  const alone = (open: OpenModel, key: NeedleTrialKey, onTokens: (done: number) => void) => {
    const { candidate } = found(open.choice);
    requireMemory(engine, trialBytes(run, candidate, key.context), trialName(candidate, key.context));
    return runTrial(promptOf(run, found(open.choice), key), toolsFor(open, onTokens));
  };
  await sweepModels<NeedleTrialKey, TrialFigures>({
    ...{ parts, engine, seed, table, onProgress, communicator },
    unitsOf: ({ context }) => context,
    measure: alone,
    ...(batch !== 1 && {
      together: {
        groups: (choice, keys) => groupsOf(keys, (context) => trialsTogether(run, found(choice), context)),
        measure: (open, keys, onTokens) => {
          const [key] = keys;
          if (keys.length === 1 && key) return Promise.allSettled([alone(open, key, onTokens)]);
          const prompts = keys.map((key) => promptOf(run, found(open.choice), key));
          return runTrials(prompts, toolsFor(open, onTokens));
        },
      },
    }),
  });
}

/** Trials of one context in groups of at most `most(context)`. */
function groupsOf(keys: readonly NeedleTrialKey[], most: (context: number) => number): NeedleTrialKey[][] {
  return [...groupRows(keys, ({ context }) => String(context)).values()].flatMap((trials) => {
    const size = most(trials[0]?.context ?? 0);
    const count = Math.ceil(trials.length / size);
    return Array.from({ length: count }, (_, i) => trials.slice(i * size, (i + 1) * size));
  });
}

/** Trials of a context that fit the memory together; 1 where one alone may not: it is refused when it is its turn. */
function trialsTogether({ engine, batch }: NeedleMeasuring, { choice }: Part, context: number): number {
  const asked = typeof batch === 'number' ? batch : Infinity;
  try {
    return Math.min(asked, scoringBatch(engine, choice, context + ANSWER_TOKENS));
  } catch (error) {
    if (error instanceof RunError) return 1;
    throw error;
  }
}
