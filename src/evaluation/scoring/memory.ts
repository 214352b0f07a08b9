import type { Engine } from '../../engines/engine.js';
import { costs, defaultChunkSize } from '../../model/costs.js';
import type { ModelConfig } from '../../model/config.js';
import { besideWeights, ELEMENT_BYTES, requireMemory } from '../../sweep/memory-budget.js';
import { modelLabel, type ModelChoice } from '../../sweep/model-key.js';
import { formatTokenCount } from '../../results/display.js';
import { scoringChunk } from './consume.js';

/** Bytes that scoring every token of a text takes beside the weights: cache, activations and the logits of a chunk. */
function scoringBytes(config: ModelConfig, engine: Engine, tokens: number): number {
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const chunk = Math.min(scoringChunk(config), tokens);
  const memory = costs(config).inferenceMemory({ context: tokens, chunk, bytesPerElement });
  return besideWeights(memory) + chunk * config.vocabSize * bytesPerElement;
}

/** Bytes that reading a prompt and continuing it takes beside the weights. */
function generationBytes(config: ModelConfig, engine: Engine, tokens: number): number {
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const chunk = Math.min(defaultChunkSize(config), tokens);
  return besideWeights(costs(config).inferenceMemory({ context: tokens, chunk, bytesPerElement }));
}

const weightBytes = ({ config }: ModelChoice, engine: Engine): number =>
  costs(config).weightBytes(ELEMENT_BYTES[engine.storage]);

/** @throws RunError when the model and a text of so many tokens do not fit the memory; call it before the model is loaded */
export function requireScoringMemory(engine: Engine, choice: ModelChoice, tokens: number): void {
  requireMemory(
    engine,
    weightBytes(choice, engine) + scoringBytes(choice.config, engine, tokens),
    `${modelLabel(choice)} with a text of ${formatTokenCount(tokens)} tokens`,
  );
}

/** @throws RunError when the model and a prompt with its continuation do not fit the memory; call it before it is loaded */
export function requireGenerationMemory(engine: Engine, choice: ModelChoice, tokens: number): void {
  requireMemory(
    engine,
    weightBytes(choice, engine) + generationBytes(choice.config, engine, tokens),
    `${modelLabel(choice)} with a context of ${formatTokenCount(tokens)} tokens`,
  );
}
