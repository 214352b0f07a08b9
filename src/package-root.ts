import { fileURLToPath } from 'node:url';

/** The directory of package.json, with a closing slash: where `experiments/` and `checkpoints/` are found. */
export const packageRoot = fileURLToPath(new URL('..', import.meta.url));
