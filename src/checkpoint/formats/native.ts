/** Our own layout: `config.json` (model, tokenizer, provenance) and `model.safetensors` or its shards. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { RunError } from '../../errors.js';

import type { Json } from '../../results/canonical.js';
import { readJson, writeJson } from '../files.js';
import { checkFit, sameNames } from '../mapped-source.js';
import { parameterShapes } from '../parameters.js';
import { openSafetensors, writeShards } from '../sharded.js';
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

export const nativeFormat: CheckpointFormat = {
  name: 'yoco',
  description: 'config.json and model.safetensors of this toolkit',
  detect(directory) {
    const file = join(directory, 'config.json');
    return existsSync(file) && readJson(file).format === MARK;
  },
  open,
  async write(directory, checkpoint, { dtype, maxShardBytes }) {
    const { config, context, provenance, tensors } = checkpoint;
    await writeShards(directory, copyEntries(tensors, dtype), maxShardBytes);
    const tokenizer = copyTokenizer(checkpoint.tokenizer, directory);
    writeJson(join(directory, 'config.json'), {
      format: MARK,
      model: config,
      tokenizer,
      context,
      provenance,
    });
  },
};
