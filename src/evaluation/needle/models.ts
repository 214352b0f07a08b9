import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ModelChoice } from '../../sweep/model-key.js';
import { chooseModels, type ModelSelection } from '../../sweep/models.js';
import { packageRoot } from '../../package-root.js';

/** A small YOCO trained on the needle task, which may come with this package. */
const TRAINED = join(packageRoot, 'checkpoints', 'needle');

/** The models of a selection; for an empty one the trained model that comes with the package, else an untrained `nano`. */
export function chooseNeedleModels(selection: ModelSelection): ModelChoice[] {
  const named = Object.values(selection).some((value) => value !== undefined);
  if (!named && existsSync(TRAINED)) return chooseModels({ checkpoints: [TRAINED] });
  return chooseModels(selection, 'nano');
}
