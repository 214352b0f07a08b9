/** Models from checkpoints and back, one tensor at a time: beside the model itself only its largest tensor is held. */
import type { Communicator } from '../distributed/communicator.js';
import { RunError } from '../errors.js';
import { createModel } from '../model/index.js';
import type { LanguageModel, ModelConfig } from '../model/index.js';
import type { Json } from '../results/canonical.js';
import type * as tf from '../tf.js';
import { elementCount } from './data-type.js';
import { replaceDirectory } from '../files/staging.js';
import { quote } from './files.js';
import { writeNative } from './formats/native.js';
import type { FormatName, OpenCheckpoint } from './open.js';
import { openCheckpoint } from './open.js';
import { PIECE_BYTES } from './tensor-source.js';
import type { TensorEntry, TensorSource } from './tensor-source.js';

/** What a checkpoint says beside its weights. */
export interface ModelMeta {
  /** What `loadTokenizer` takes; null where the checkpoint does not say. */
  readonly tokenizer: string | null;
  /** The longest sequence the model was trained on, in tokens; null where unknown. */
  readonly context: number | null;
  readonly provenance: Json;
}

export interface LoadedModel extends ModelMeta {
  readonly model: LanguageModel;
  readonly config: ModelConfig;
  readonly format: FormatName;
  /** Where the files are: the newest step directory if a training run was given. */
  readonly directory: string;
}

/**
 * Opens a checkpoint of any known format and loads its model into the current engine.
 * @throws UsageError where there is none, RunError where it is damaged or does not fit its configuration
 */
export function loadModel(directory: string): LoadedModel {
  const checkpoint = openCheckpoint(directory);
  try {
    const { config, tokenizer, context, provenance, format } = checkpoint;
    const model = modelOf(checkpoint);
    return {
      model,
      config,
      tokenizer,
      context,
      provenance,
      format: format.name,
      directory: checkpoint.directory,
    };
  } finally {
    checkpoint.tensors.close();
  }
}

/**
 * The model of an open checkpoint, which stays open.
 * @param ranks over which it divides sequences; default: none
 */
export function modelOf(
  { config, tensors }: Pick<OpenCheckpoint, 'config' | 'tensors'>,
  ranks?: Communicator,
): LanguageModel {
  const model = createModel(config, { weights: 'zeros', ranks });
  loadParameters(model, tensors);
  return model;
}

/** Sets all parameters of a model, through one buffer of the largest. @param keepsFloat32 as of `LanguageModel.load` */
export function loadParameters(model: LanguageModel, tensors: TensorSource, keepsFloat32 = false): void {
  const names = [...model.parameters.keys()];
  const missing = names.find((name) => !tensors.has(name));
  if (missing !== undefined) throw new RunError(`${tensors.path}: tensor ${quote(missing)} is missing`);
  const sizes = names.map((name) => elementCount(tensors.info(name).shape) ?? 0);
  const values = new Float32Array(Math.max(...sizes));
  const scratch = new Uint8Array(PIECE_BYTES);
  for (const name of names) {
    model.load(name, tensors.readFloats(name, values, scratch), keepsFloat32);
  }
}

/** Tensors to be written as float32, read from the engine when their turn comes. */
export function tensorEntries(tensors: ReadonlyMap<string, tf.Tensor>): TensorEntry[] {
  return [...tensors].map(([name, tensor]) => ({
    name,
    dtype: 'F32',
    shape: tensor.shape,
    data: async () => float32Of(await tensor.data()),
  }));
}

/** The values themselves where they are float32, as parameters are, so that nothing is copied. */
function float32Of(values: ArrayLike<number>): Float32Array<ArrayBuffer> {
  if (values instanceof Float32Array && values.buffer instanceof ArrayBuffer) {
    return new Float32Array(values.buffer, values.byteOffset, values.length);
  }
  return Float32Array.from(values);
}

/** Writes a checkpoint in our own layout into an empty directory. */
export async function writeModel(directory: string, model: LanguageModel, meta: ModelMeta): Promise<void> {
  await writeNative(directory, { config: model.config, ...meta }, tensorEntries(model.parameters));
}

/**
 * Saves a model in our own layout; `directory` is replaced as a whole when everything is written.
 * @throws RunError where that is impossible (disk full, no permission); what was there before is untouched
 */
export async function saveModel(directory: string, model: LanguageModel, meta: ModelMeta): Promise<void> {
  await replaceDirectory(directory, (temporary) => writeModel(temporary, model, meta));
}
