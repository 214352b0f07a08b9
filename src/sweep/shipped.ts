/** The trained models that come with the toolkit, for commands that are given no model. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../package-root.js';
import type { ModelChoice } from './model-key.js';
import { chooseModels, DEFAULT_PRESET, type ModelSelection } from './models.js';

/** `needle-general` finds numbers in long texts, `language` continues English; the npm package has the first only. */
export type ShippedModel = 'needle-general' | 'language';

/**
 * The models of a selection; for an empty one the trained model `name`, or where it did not come with the toolkit an untrained one
 * of the default preset.
 * @param checkpoints the folder of trained models
 * @throws what `chooseModels` throws
 */
export function chooseShipped(
  name: ShippedModel,
  selection: ModelSelection,
  { defaultPreset = DEFAULT_PRESET, checkpoints = join(packageRoot, 'checkpoints') } = {},
): ModelChoice[] {
  const named = Object.values(selection).some((value) => value !== undefined);
  const directory = join(checkpoints, name);
  if (!named && existsSync(directory)) return chooseModels({ checkpoints: [directory] });
  return chooseModels(selection, defaultPreset);
}
