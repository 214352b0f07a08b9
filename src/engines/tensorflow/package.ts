/**
 * Loading `@tensorflow/tfjs-node-gpu`: from where this toolkit is installed, or from the folder that `YOCO_TENSORFLOW` names.
 * `runtime/tensorflow.sh` builds it there; docs/engines.md says how.
 */
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import util from 'node:util';
import { RunError } from '../../errors.js';

const PACKAGE = '@tensorflow/tfjs-node-gpu';
const REMEDY = 'docs/engines.md says how to build it';

const ours = createRequire(import.meta.url);

/**
 * Loads the package, which registers its backend `tensorflow` and its kernels with the TensorFlow.js of this process.
 * @throws RunError where the package is absent, or its addon or libtensorflow does not load
 */
export function loadPackage(): void {
  const folder = process.env.YOCO_TENSORFLOW ?? '';
  const load = folder === '' ? ours : createRequire(join(resolve(folder), 'package.json'));
  const where = folder === '' ? '' : ` in ${folder} (YOCO_TENSORFLOW)`;
  let manifest: string;
  try {
    manifest = load.resolve(`${PACKAGE}/package.json`);
  } catch (error) {
    throw new RunError(`tensorflow: ${PACKAGE} is not installed${where}; ${REMEDY}`, { cause: error });
  }
  restoreUtilities();
  // Notes of libtensorflow about itself.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
  try {
    shareTensorflowJs(createRequire(manifest));
    load(PACKAGE);
  } catch (error) {
    const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
    throw new RunError(
      `tensorflow: ${PACKAGE}${where} does not load: ${line.trim().replace(/\.$/, '')}; ${REMEDY}`,
      {
        cause: error,
      },
    );
  }
}

/**
 * Gives the package the TensorFlow.js that this toolkit has loaded, where another is installed beside it: two would register every
 * kernel of the plain backend twice.
 */
function shareTensorflowJs(theirs: NodeJS.Require): void {
  for (const name of ['@tensorflow/tfjs', '@tensorflow/tfjs-core'])
    theirs.cache[theirs.resolve(name)] ??= ours.cache[ours.resolve(name)];
}

/** Functions that the package calls and that Node 23 has removed. */
function restoreUtilities(): void {
  const functions = util as unknown as Record<string, unknown>;
  functions.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  functions.isArray ??= Array.isArray;
}
