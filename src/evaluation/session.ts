/** What every evaluating command does before its work: choose the models, start the engine, describe the run. */
import type { RunContext } from '../sweep/run-context.js';
import { modelLabel, type ModelChoice } from '../sweep/model-key.js';
import type { Engine } from '../engines/engine.js';
import { startChosenEngine, type EngineFlags } from '../engines/start.js';
import { costs } from '../model/costs.js';
import type { Json } from '../results/canonical.js';
import { collectProvenance, type Provenance } from '../results/provenance.js';
import { describeTokens, loadCandidates, type Candidate } from './candidates.js';

/** The parsed flags every evaluating command has. */
export interface EvaluationFlags extends EngineFlags {
  readonly seed: number;
  readonly tokenizer?: string;
}

export interface SessionOptions {
  readonly choices: readonly ModelChoice[];
  /** SHA-256 of the data read, by name. */
  readonly inputs: Readonly<Record<string, string>>;
  /** What else the flags came to. */
  readonly configuration?: Readonly<Record<string, Json>>;
}

export interface Session {
  readonly engine: Engine;
  readonly candidates: readonly Candidate[];
  readonly provenance: Provenance;
}

export async function startSession(
  context: RunContext,
  flags: EvaluationFlags,
  { choices, ...options }: SessionOptions,
): Promise<Session> {
  const candidates = await loadCandidates(choices, flags);
  for (const { checkpoint } of choices) checkpoint?.remarks?.forEach(context.note);
  for (const line of describeTokens(candidates)) context.detail?.(line);
  const engine = await startChosenEngine(flags, context);
  for (const { choice } of candidates) {
    if (!choice.checkpoint)
      context.note(`${modelLabel(choice)}: no checkpoint, the weights are random (seed ${flags.seed})`);
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
    provenance: collectProvenance({
      command: context.command,
      flags: context.flags,
      engine,
      configuration,
      inputs,
    }),
  };
}

/** What beside model and data may change figures in their last digits: results of another engine are measured anew. */
export const engineIdentity = ({ name, storage, threads }: Engine): Json => ({ name, storage, threads });
