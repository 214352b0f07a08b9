import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { chooseModels, type ModelChoice, type ModelFlags } from '../../sweep/models.js';
import { packageRoot } from '../../package-root.js';

/** A small YOCO trained on the needle task, which may come with this package. */
const TRAINED = join(packageRoot, 'checkpoints', 'needle');

/** The models of the flags; without any, the trained one that comes with the package, else an untrained `nano`. */
export function chooseNeedleModels(flags: ModelFlags): ModelChoice[] {
  const named = flags.arch ?? flags.preset ?? flags.config ?? flags.checkpoint ?? flags['self-decoder'];
  if (named === undefined && existsSync(TRAINED)) return chooseModels({ checkpoint: [TRAINED] });
  return chooseModels(flags, 'nano');
}
