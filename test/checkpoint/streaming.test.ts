import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import type { ConvertOptions } from '../../src/checkpoint/convert.js';
import { loadParameters } from '../../src/checkpoint/load.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { SafetensorsFile, writeSafetensors } from '../../src/checkpoint/safetensors.js';
import type { TensorEntry } from '../../src/checkpoint/safetensors.js';
import { PIECE_BYTES } from '../../src/checkpoint/tensor-source.js';
import { writeTorchArchive } from '../../src/checkpoint/torch-writer.js';
import { Random } from '../../src/random.js';
import { createConfig, createModel } from '../../src/model/index.js';
import { usePlainBackend } from '../plain-backend.js';
import { contents, makeCheckpoint, randomTensor, SMALL } from './checkpoints.js';
import { scratchDirectory } from './scratch.js';

const test = suite('checkpoint/streaming');
const at = scratchDirectory(test);

/** 20 MB in bfloat16; the embedding is 8 MB, four pieces. */
const LARGE = {
  architecture: 'transformer' as const,
  ...{ dim: 512, layers: 1, hiddenDim: 512, heads: 4, kvHeads: 4, headDim: 128, vocabSize: 8192 },
};

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

/** Buffers are freed in the background after a collection; the next one waits for that. */
const collect = (): void => {
  gc();
  gc();
};

/** Bytes of array buffers that exist, those waiting for the collector included. */
const buffers = (): number => process.memoryUsage().arrayBuffers;

/** How many bytes of buffers a conversion has made, over all of it, more than the collector happened to free. */
async function growth(source: string, destination: string, options: ConvertOptions): Promise<number> {
  collect();
  const before = buffers();
  let most = 0;
  const onProgress = (): void => {
    most = Math.max(most, buffers() - before);
  };
  await convertCheckpoint(source, destination, { ...options, overwrite: true, onProgress });
  return most;
}

test('conversions hold a few pieces, whatever the size of the tensors', async () => {
  const source = await makeCheckpoint(at('ours'), LARGE, { dtype: 'BF16' });
  const conversions: [string, string, ConvertOptions, pieces: number][] = [
    ['ours', 'hf', { to: 'huggingface' }, 1],
    ['hf', 'back', { to: 'yoco' }, 1],
    ['ours', 'official', { to: 'official' }, 1],
    ['official', 'back', { to: 'yoco' }, 1],
    ['ours', 'meta', { to: 'meta' }, 1],
    ['meta', 'back', { to: 'yoco' }, 1],
    // Widened values and their bytes are twice as large as the piece.
    ['hf', 'wide', { to: 'yoco', dtype: 'F32' }, 5],
    ['wide', 'back', { to: 'official', dtype: 'BF16' }, 3],
  ];
  for (const [from, to, options, pieces] of conversions) {
    const bytes = await growth(at(from), at(to), options);
    assert.ok(bytes <= (pieces + 0.5) * PIECE_BYTES, `${from} to ${to}: ${bytes} bytes of buffers`);
  }
  assert.equal(contents(at('back')), contents(source));
});

test('a model is loaded through one buffer of its largest parameter', async () => {
  await usePlainBackend();
  await makeCheckpoint(at('ours'), LARGE, { dtype: 'BF16' });
  const { config, tensors } = openCheckpoint(at('ours'));
  const model = createModel(config, { weights: 'zeros' });
  const load = model.load.bind(model);
  let most = 0;
  collect();
  const before = buffers();
  model.load = (name, values) => {
    load(name, values);
    collect();
    most = Math.max(most, buffers() - before);
  };
  loadParameters(model, tensors);
  tensors.close();
  model.dispose();
  const largest = 4 * LARGE.vocabSize * LARGE.dim;
  assert.ok(most <= largest + 1.5 * PIECE_BYTES, `${most} bytes beside the model`);
});

test('tensors in pieces make the same files as whole ones', async () => {
  const random = new Random(5);
  const whole = (['F32', 'BF16', 'I64'] as const).map((dtype) => randomTensor(dtype, [7, 13], dtype, random));
  const divided = whole.map((entry): TensorEntry => {
    const bytes = entry.data as Uint8Array;
    return {
      ...entry,
      data: { pieces: () => [0, 1, 2].map((i) => bytes.subarray(i * 64, i < 2 ? i * 64 + 64 : undefined)) },
    };
  });
  for (const write of [writeSafetensors, writeTorchArchive]) {
    await write(at('whole'), whole);
    await write(at('divided'), divided);
    assert.equal(readFileSync(at('divided')), readFileSync(at('whole')));
  }
});

for (const [name, dtype] of [
  ['scaled', 'F32'],
  ['tied', 'F16'],
  ['transformer', 'F64'],
] as const) {
  test(`${name}: any piece of a tensor is that part of the whole`, async () => {
    const source = await makeCheckpoint(at('ours'), SMALL[name] ?? {}, { dtype });
    await convertCheckpoint(source, at('meta'), { to: 'meta' });
    const { tensors } = openCheckpoint(at('meta'));
    const scratch = new Uint8Array(24);
    for (const tensor of tensors.names()) {
      const pieces = Array.from(tensors.pieces(tensor, scratch), (piece) => Buffer.from(piece));
      assert.equal(Buffer.concat(pieces), Buffer.from(tensors.readBytes(tensor)));
    }
    tensors.close();
  });
}

test('a piece beyond the end of a tensor is refused, not taken from the next', async () => {
  const source = await makeCheckpoint(at('ours'), createConfig(SMALL.retention ?? {}));
  const file = SafetensorsFile.open(`${source}/model.safetensors`);
  const [name = ''] = file.names();
  const size = file.readBytes(name).byteLength;
  assert.throws(() => {
    file.readInto(name, size - 4, new Uint8Array(8));
  }, /ends at byte/);
  file.close();
});

test.run();
