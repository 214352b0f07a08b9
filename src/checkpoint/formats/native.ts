/** Our own layout: `config.json` (model, tokenizer, provenance) and `model.safetensors` or its shards. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { isTokenizerName } from '../../data/tokenizer.js';
import { insideFile } from '../../files/inside.js';
import { OBJECT, readJsonAs } from '../../files/json.js';
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

const CONFIG = v.object({
  model: OBJECT,
  tokenizer: v.nullish(v.string(), null),
  context: v.nullish(v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(1)), null),
  provenance: v.optional(v.unknown(), null),
});

/** A tokenizer is one that has a name, or a file of the directory. */
function resolveTokenizer(directory: string, file: string, tokenizer: string | null): string | null {
  if (tokenizer === null || isTokenizerName(tokenizer)) return tokenizer;
  return insideFile(directory, tokenizer, `${file}: its 'tokenizer'`);
}

function open(directory: string): Checkpoint {
  const file = join(directory, 'config.json');
  const { model, context, provenance, ...rest } = readJsonAs(file, CONFIG);
  const config = configFrom(file, model);
  const tokenizer = resolveTokenizer(directory, file, rest.tokenizer);
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
    tokenizer,
    context,
    provenance: provenance as Json,
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
