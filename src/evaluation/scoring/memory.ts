import type { Engine } from '../../engines/engine.js';
import { costs, defaultChunkSize } from '../../model/costs.js';
import type { ModelConfig } from '../../model/config.js';
import { besideWeights, ELEMENT_BYTES, requireMemory } from '../../sweep/memory-budget.js';
import { modelLabel, type ModelChoice } from '../../sweep/model-key.js';
import { formatTokenCount } from '../../results/display.js';
import { scoringChunk } from './consume.js';
import { forkedPageSize } from './lent-caches.js';
import { MOST_SEQUENCES, PASS_TOKENS } from './packed-scoring.js';

/**
 * Bytes that scoring every token of a text takes beside the weights, on each of the ranks that divide it: cache, activations and
 * the logits of a chunk.
 */
function scoringBytes(config: ModelConfig, engine: Engine, tokens: number, ranks = 1): number {
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const chunk = Math.min(scoringChunk(config), tokens);
  const memory = costs(config).inferenceMemory({ context: tokens, chunk, bytesPerElement, ranks });
  return besideWeights(memory) + chunk * config.vocabSize * bytesPerElement;
}

/** Bytes that reading a prompt and continuing it takes beside the weights, on each of the ranks that divide it. */
function generationBytes(config: ModelConfig, engine: Engine, tokens: number, ranks: number): number {
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const chunk = Math.min(ranks * defaultChunkSize(config), tokens);
  return besideWeights(costs(config).inferenceMemory({ context: tokens, chunk, bytesPerElement, ranks }));
}

const weightBytes = ({ config }: ModelChoice, engine: Engine): number =>
  costs(config).weightBytes(ELEMENT_BYTES[engine.storage]);

/** @throws RunError when the model and a text of so many tokens do not fit the memory; call it before the model is loaded */
export function requireScoringMemory(engine: Engine, choice: ModelChoice, tokens: number, ranks = 1): void {
  requireMemory(
    engine,
    weightBytes(choice, engine) + scoringBytes(choice.config, engine, tokens, ranks),
    `${modelLabel(choice)} with a text of ${formatTokenCount(tokens)} tokens`,
  );
}

/** Share of the memory that caches of sequences beyond the first may take: pools and workspaces take some that no formula knows. */
const CACHE_SHARE = 0.8;

/**
 * How many sequences of at most `tokens` tokens a pass may have.
 * @param batch as asked for; undefined: as many as fit, at most `MOST_SEQUENCES`
 * @throws RunError when the model and the sequences do not fit the memory; call it before the model is loaded
 */
export function scoringBatch(engine: Engine, choice: ModelChoice, tokens: number, batch?: number): number {
  const { config } = choice;
  const texts = (count: number): string =>
    `${modelLabel(choice)} with ${count === 1 ? 'a text' : `${count} texts`} of ${formatTokenCount(tokens)} tokens`;
  const fixed = weightBytes(choice, engine) + scoringBytes(config, engine, Math.max(PASS_TOKENS, tokens));
  const sequence = sequenceBytes(config, engine, tokens);
  requireMemory(engine, fixed, texts(1));
  if (batch !== undefined) {
    requireMemory(engine, fixed + (batch - 1) * sequence, texts(batch));
    return batch;
  }
  const room = CACHE_SHARE * (engine.availableBytes() - fixed);
  return Math.max(1, Math.min(MOST_SEQUENCES, 1 + Math.floor(room / sequence)));
}

/** Bytes of the caches of one more sequence in a pass: its own, and the one it was forked from. */
function sequenceBytes(config: ModelConfig, engine: Engine, tokens: number): number {
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const formulas = costs(config);
  const page = forkedPageSize(tokens);
  const allocated = Math.ceil(tokens / page) * page;
  return (
    2 * (allocated * formulas.keyValueBytesPerToken(bytesPerElement) + formulas.stateBytes(bytesPerElement))
  );
}

/** @throws RunError when the model and a prompt with its continuation do not fit the memory; call it before it is loaded */
export function requireGenerationMemory(
  engine: Engine,
  choice: ModelChoice,
  tokens: number,
  ranks = 1,
): void {
  requireMemory(
    engine,
    weightBytes(choice, engine) + generationBytes(choice.config, engine, tokens, ranks),
    `${modelLabel(choice)} with a context of ${formatTokenCount(tokens)} tokens`,
  );
}
