/** Checkpoints by their names on a hub. */
import { RunError, UsageError } from '../errors.js';
import type { RemoteFile } from '../hub/download.js';
import { isReference, parseReference, type Reference } from '../hub/reference.js';
import { openRepository } from '../hub/repository.js';
import { CHECKPOINT_FILES } from './checkpoint-files.js';

/** Weights by their layouts, the one that is taken first where a repository has several. */
const WEIGHTS = [
  /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/,
  /^consolidated(\.00)?\.safetensors$/,
  /^(checkpoint|consolidated(\.00)?)\.pth$/,
];
/** What only the training of the checkpoint needs. */
const TRAINING_STATE = /^training\.(json|safetensors)$/;
const OTHER_WEIGHTS = /\.(bin|gguf|pth?|ckpt|h5|msgpack|onnx|safetensors)$/;

/**
 * The directory of a checkpoint: the one named or, of `hf:owner/name[@revision]`, that of the files fetched.
 * @throws UsageError for a repository that has no checkpoint, RunError where its files cannot be had
 */
export async function localCheckpoint(named: string): Promise<string> {
  if (!isReference(named)) return named;
  const reference = parseReference(named);
  const { stateDict } = reference;
  const directory = await fetchCheckpoint(reference);
  return stateDict === undefined ? directory : `${directory}#${stateDict}`;
}

async function fetchCheckpoint(reference: Reference): Promise<string> {
  const { text, part } = reference;
  if (part !== undefined) throw new UsageError(`${text}: a checkpoint has no split: leave ':${part}' out`);
  const repository = await openRepository('model', reference);
  if (repository.files === null) return repository.directory;
  return repository.fetch(checkpointFilesOf(text, repository.files));
}

/** Configuration, tokenizer and one set of weights. */
function checkpointFilesOf(shown: string, files: readonly RemoteFile[]): RemoteFile[] {
  const known = files.filter(({ path }) => CHECKPOINT_FILES.belongs(path) && !TRAINING_STATE.test(path));
  const isWeights = (path: string): boolean => WEIGHTS.some((layout) => layout.test(path));
  const layout = WEIGHTS.find((pattern) => known.some(({ path }) => pattern.test(path)));
  if (layout === undefined) {
    const others = files.map(({ path }) => path).filter((path) => OTHER_WEIGHTS.test(path));
    if (others.length === 0) throw new UsageError(`${shown} holds no checkpoint`);
    throw new RunError(
      `${shown} has its weights only in a form that is not read (${others.slice(0, 5).join(', ')}): model.safetensors, checkpoint.pth and consolidated.00.pth are`,
    );
  }
  return known.filter(({ path }) => layout.test(path) || !isWeights(path));
}
