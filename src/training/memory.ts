import type { Engine } from '../engines/engine.js';
import { costs, layoutOf } from '../model/index.js';
import type { ModelConfig } from '../model/index.js';
import { ELEMENT_BYTES, requireMemory } from '../sweep/memory-budget.js';
import type { Recipe, RecipeStage } from './recipe.js';

/** Parameters and their gradients, which every rank has. */
const WHOLE_COPIES = 2;
/** Two moments; several ranks divide them and a copy of the parameters between them. */
const MOMENTS = 2;

/**
 * Bytes that training takes at least. A layer keeps for the backward pass: its input, the inputs of its two norms'
 * successors, queries, keys or values, the mixer's output (together about 6 dim per token) and the three widths of the
 * feed-forward network; with `recompute` only its input, and one layer at a time the rest. Measured peaks on engine
 * `cpu` are 1.0 to 1.3 times this.
 * @param ranks between which the rows and the optimizer's state are divided
 */
export function trainingBytes(
  config: ModelConfig,
  recipe: Recipe,
  bytesPerElement: number,
  ranks = 1,
): number {
  const activations = recipe.stages.map((stage) => stageElements(config, stage, recipe.recompute));
  // The gradients of a micro-batch are added to the sum of those before.
  const sums = recipe.accumulate > 1 ? 1 : 0;
  const copies = WHOLE_COPIES + sums + (ranks === 1 ? MOMENTS : (MOMENTS + 1) / ranks);
  const parameters = copies * costs(config).parameters();
  return (parameters + Math.max(...activations) / ranks) * bytesPerElement;
}

function stageElements(config: ModelConfig, stage: RecipeStage, recompute: boolean): number {
  const { dim, hiddenDim, layers } = config;
  // Layers after the exit, such as YOCO's cross-decoder, run where the answers are, which are few.
  const deep = stage.answersOnly ? layoutOf(config).exitLayers : layers;
  const layer = 6 * dim + 3 * hiddenDim;
  return stage.batch * stage.length * (recompute ? deep * dim + layer : deep * layer);
}

/** @throws RunError with the bytes needed and available, before anything is computed */
export function checkTrainingMemory(config: ModelConfig, recipe: Recipe, engine: Engine, ranks = 1): void {
  const largest = recipe.stages.reduce((a, b) => (b.batch * b.length > a.batch * a.length ? b : a));
  const remedy = recipe.recompute ? '' : ' without --recompute';
  const what = `training on ${largest.batch} x ${largest.length} tokens${remedy}`;
  requireMemory(engine, trainingBytes(config, recipe, ELEMENT_BYTES[engine.storage], ranks), what);
}
