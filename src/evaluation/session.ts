/** What every evaluation does before its work: load what belongs to the models, start the engine, describe the run. */
import { modelLabel, type ModelChoice } from '../sweep/model-key.js';
import type { Communicator } from '../distributed/communicator.js';
import { requireDividing, type Ranks } from '../distributed/ranks.js';
import type { Engine } from '../engines/engine.js';
import { startOnRank } from '../engines/join.js';
import type { EngineFlags, StartReports } from '../engines/start.js';
import { costs } from '../model/costs.js';
import type { Json } from '../results/canonical.js';
import { collectProvenance, type Provenance } from '../results/provenance.js';
import type { RunRecord } from '../sweep/table.js';
import { describeTokens, loadCandidates, type Candidate } from './candidates.js';

export interface SessionOptions extends StartReports {
  readonly choices: readonly ModelChoice[];
  readonly engine: EngineFlags;
  /** Of random weights. */
  readonly seed: number;
  /** Overrides what checkpoints and vocabularies say. */
  readonly tokenizer?: string;
  readonly record: RunRecord;
  /** The place of this process among several, and how many of them divide each sequence; default: it is alone. */
  readonly ranks?: Ranks | null;
  readonly contextParallel?: number;
  /** SHA-256 of the data read, by name. */
  readonly inputs: Readonly<Record<string, string>>;
  /** What else determines the run. */
  readonly configuration?: Readonly<Record<string, Json>>;
}

export interface Session {
  readonly engine: Engine;
  /** The ranks over which the models divide sequences; absent: this process is alone. */
  readonly communicator?: Communicator;
  readonly candidates: readonly Candidate[];
  readonly provenance: Provenance;
}

export async function startSession(
  options: SessionOptions,
): Promise<Session & { readonly communicator: Communicator }> {
  const { choices, seed, note, detail, record, ranks = null } = options;
  requireDividing(ranks, options.contextParallel);
  const candidates = await loadCandidates(choices, options);
  for (const line of choices.flatMap(({ checkpoint }) => checkpoint?.remarks ?? [])) note?.(line);
  for (const line of describeTokens(candidates)) detail?.(line);
  const { engine, communicator } = await startOnRank(options.engine, ranks, { note, detail });
  for (const { choice } of candidates) {
    if (!choice.checkpoint)
      note?.(`${modelLabel(choice)}: no checkpoint, the weights are random (seed ${seed})`);
  }
  const weights = candidates.map(({ choice, weightsHash }) => [choice.name, weightsHash] as const);
  const inputs = {
    ...options.inputs,
    ...Object.fromEntries(weights.filter((entry): entry is [string, string] => entry[1] !== null)),
  };
  const models = candidates.map(({ choice, tokenizer }) => ({
    name: choice.name,
    config: { ...choice.config },
    parameters: costs(choice.config).parameters(),
    tokenizer: tokenizer.name,
  }));
  const configuration: Json = { models, ...options.configuration };
  return {
    engine,
    communicator,
    candidates: candidates.map((candidate) => ({ ...candidate, open: () => candidate.open(communicator) })),
    provenance: collectProvenance({ ...record, communicator, engine, configuration, inputs }),
  };
}

/** What beside model and data may change figures in their last digits: results of another engine are measured anew. */
export const engineIdentity = ({
  name,
  storage,
  threads,
  cacheType = null,
  compute = null,
}: Engine): Json => ({
  name,
  storage,
  threads,
  ...(cacheType !== null && { cacheType }),
  ...(compute !== null && { compute }),
});
