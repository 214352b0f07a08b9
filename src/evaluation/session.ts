/** What every evaluation does before its work: load what belongs to the models, start the engine, describe the run. */
import { modelLabel, type ModelChoice } from '../sweep/model-key.js';
import type { Engine } from '../engines/engine.js';
import { startChosenEngine, type EngineFlags, type StartReports } from '../engines/start.js';
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
  /** SHA-256 of the data read, by name. */
  readonly inputs: Readonly<Record<string, string>>;
  /** What else determines the run. */
  readonly configuration?: Readonly<Record<string, Json>>;
}

export interface Session {
  readonly engine: Engine;
  readonly candidates: readonly Candidate[];
  readonly provenance: Provenance;
}

export async function startSession(options: SessionOptions): Promise<Session> {
  const { choices, seed, note, detail, record } = options;
  const candidates = await loadCandidates(choices, options);
  for (const line of choices.flatMap(({ checkpoint }) => checkpoint?.remarks ?? [])) note?.(line);
  for (const line of describeTokens(candidates)) detail?.(line);
  const engine = await startChosenEngine(options.engine, { note, detail });
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
    candidates,
    provenance: collectProvenance({ ...record, engine, configuration, inputs }),
  };
}

/** What beside model and data may change figures in their last digits: results of another engine are measured anew. */
export const engineIdentity = ({ name, storage, threads, cacheType = null }: Engine): Json => ({
  name,
  storage,
  threads,
  ...(cacheType !== null && { cacheType }),
});
