/** Small checkpoints with made-up weights. */
import { join } from 'node:path';
import { Random } from '../../src/random.js';
import { bytesPerElement, elementCount } from '../../src/checkpoint/data-type.js';
import type { DataType } from '../../src/checkpoint/data-type.js';
import { writeJson } from '../../src/checkpoint/files.js';
import { parameterShapes } from '../../src/checkpoint/mapped-source.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import type { OpenCheckpoint } from '../../src/checkpoint/open.js';
import { writeSafetensors } from '../../src/checkpoint/safetensors.js';
import type { TensorEntry } from '../../src/checkpoint/safetensors.js';
import { createConfig } from '../../src/model/config.js';
import type { ConfigInput } from '../../src/model/config.js';

const SIZE = { dim: 16, layers: 2, hiddenDim: 24, heads: 4, kvHeads: 2, vocabSize: 40 } as const;

export const SMALL: Readonly<Record<string, ConfigInput>> = {
  retention: { ...SIZE, architecture: 'yoco', selfHeads: 2 },
  window: { ...SIZE, architecture: 'yoco', slidingWindow: 8 },
  uneven: { ...SIZE, architecture: 'yoco', layers: 3, selfLayers: 2, crossPositions: 'none' },
  transformer: { ...SIZE, architecture: 'transformer', headDim: 8, normEps: 1e-6, ropeTheta: 5e5 },
  tied: { ...SIZE, architecture: 'transformer', tieEmbeddings: true, slidingWindow: 32 },
  qwen2: { ...SIZE, architecture: 'transformer', attentionBias: true, tieEmbeddings: true },
  qwen3: { ...SIZE, architecture: 'transformer', headDim: 8, qkNorm: true, slidingWindow: 8 },
  scaled: {
    ...SIZE,
    architecture: 'transformer',
    ropeScaling: {
      type: 'llama3',
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 8192,
    },
  },
};

/** Random bytes that are finite numbers of the type. */
export function randomTensor(
  name: string,
  shape: readonly number[],
  dtype: DataType,
  random: Random,
): TensorEntry {
  const size = bytesPerElement(dtype);
  const data = new Uint8Array((elementCount(shape) ?? 0) * size);
  for (let index = 0; index < data.byteLength; index++) {
    // The upper byte keeps floats small: models of them compute finite numbers.
    data[index] = index % size === size - 1 && size > 1 ? 0x3c : random.below(0x78);
  }
  return { name, shape, dtype, data };
}

/** A checkpoint in our own layout; the same seed gives the same weights. */
export async function makeCheckpoint(
  directory: string,
  input: ConfigInput,
  { dtype = 'F32', tokenizer = 'bytes' }: { dtype?: DataType; tokenizer?: string | null } = {},
): Promise<string> {
  const random = new Random(1);
  const config = createConfig(input);
  const entries = [...parameterShapes(config)].map(([name, shape]) =>
    randomTensor(name, shape, dtype, random),
  );
  await writeSafetensors(join(directory, 'model.safetensors'), entries);
  writeJson(join(directory, 'config.json'), {
    format: 'yoco-checkpoint',
    model: config,
    tokenizer,
    context: 512,
    provenance: { made: 'by a test' },
  });
  return directory;
}

/** What a checkpoint says of itself, its tensors aside. */
export function described(directory: string): Omit<OpenCheckpoint, 'tensors'> {
  const { tensors, ...rest } = openCheckpoint(directory);
  tensors.close();
  return rest;
}

/** Configuration and the bytes of all tensors of a checkpoint, to be compared. */
export function contents(directory: string): unknown {
  const { config, tensors } = openCheckpoint(directory);
  const values = tensors
    .names()
    .map((name) => [name, tensors.info(name), Buffer.from(tensors.readBytes(name)).toString('hex')]);
  tensors.close();
  return { config, values: values.sort() };
}
