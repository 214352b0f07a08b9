/** Models: configurations, presets, weights, checkpoints, costs. */
export { convertCheckpoint, type Conversion, type ConvertOptions } from '../checkpoint/convert.js';
export { loadModel, saveModel, type LoadedModel, type ModelMeta } from '../checkpoint/load.js';
export { FORMAT_NAMES, openCheckpoint, type FormatName, type OpenCheckpoint } from '../checkpoint/open.js';
export * from '../model/index.js';
export { chooseModel, chooseModels, onlyModel, type ModelSelection } from '../sweep/models.js';
export { chooseShipped, type ShippedModel } from '../sweep/shipped.js';
