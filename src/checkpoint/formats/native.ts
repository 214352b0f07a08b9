/** Our own layout: `config.json` (model, tokenizer, provenance) and `model.safetensors` or its shards. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { RunError } from '../../errors.js';

import type { Json } from '../../results/canonical.js';
import { readJson, writeJson } from '../files.js';
import { checkFit, parameterShapes, sameNames } from '../mapped-source.js';
import { openSafetensors, writeShards } from '../sharded.js';
import type { TensorEntry } from '../tensor-source.js';
import { copyEntries } from './format.js';
import type { Checkpoint, CheckpointFormat } from './format.js';
import { configFrom } from './config-from.js';
import { copyTokenizer } from './tokenizer-files.js';

const MARK = 'yoco-checkpoint';

function resolveTokenizer(directory: string, file: string, tokenizer: unknown): string | null {
  if (tokenizer === null || tokenizer === undefined) return null;
  if (typeof tokenizer !== 'string') throw new RunError(`${file}: its 'tokenizer' is not a text`);
  return tokenizer === 'tokenizer.json' ? join(directory, tokenizer) : tokenizer;
}

function open(directory: string): Checkpoint {
  const file = join(directory, 'config.json');
  const { model, tokenizer, context, provenance } = readJson(file);
  if (typeof model !== 'object' || model === null) throw new RunError(`${file}: it has no 'model' object`);
  const config = configFrom(file, model);
  const tensors = openSafetensors(directory);
  try {
    const shapes = parameterShapes(config);
    checkFit(tensors, shapes, sameNames(shapes.keys()));
  } catch (error) {
    tensors.close();
    throw error;
  }
  return {
    config,
    tokenizer: resolveTokenizer(directory, file, tokenizer),
    context: typeof context === 'number' ? context : null,
    provenance: (provenance ?? null) as Json,
    tensors,
  };
}

/** Writes a checkpoint of our own layout from entries with our parameter names. */
export async function writeNative(
  directory: string,
  { config, tokenizer, context, provenance }: Omit<Checkpoint, 'tensors'>,
  entries: readonly TensorEntry[],
  maxShardBytes?: number,
): Promise<void> {
  await writeShards(directory, entries, maxShardBytes);
  const name = copyTokenizer(tokenizer, directory);
  const description = { format: MARK, model: config, tokenizer: name, context, provenance };
  writeJson(join(directory, 'config.json'), description);
}

export const nativeFormat: CheckpointFormat = {
  name: 'yoco',
  description: 'config.json and model.safetensors of this toolkit',
  detect(directory) {
    const file = join(directory, 'config.json');
    return existsSync(file) && readJson(file).format === MARK;
  },
  open,
  async write(directory, checkpoint, { dtype, maxShardBytes }) {
    await writeNative(directory, checkpoint, copyEntries(checkpoint.tensors, dtype), maxShardBytes);
  },
};
