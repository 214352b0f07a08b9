/** Training. */
export { TRAIN_SCHEMA, type TrainStep } from '../training/log.js';
export { defaultDirectory, initialWeights, readRecipe, withVocabulary } from '../training/inputs.js';
export { createRecipe, type Recipe, type RecipeInput, type RecipeStage } from '../training/recipe.js';
export type { TrainProgress } from '../training/run-training.js';
export { trainModel, type TrainOptions, type TrainResult } from '../training/train.js';
export {
  compareTraining,
  type CompareTrainingOptions,
  type TrainingComparison,
} from '../training/comparison/compare-training.js';
export { preparePublication, type Publication, type PublishOptions } from '../training/publish.js';
