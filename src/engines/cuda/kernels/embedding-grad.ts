/** The gradient of an embedding: rows are sorted by id and summed. */
import type { Kernels } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import type { KernelArgument } from '../launch.js';
import { float32, int32, pointer } from '../launch.js';
import { SORTED } from '../structs.js';
import { TILES } from '../tiles.js';
import { sizeOf } from '../walk.js';

const file = 'embedding_grad';
const { CHUNK } = TILES.embedding_grad;

/** Bytes of the parts of the scratch memory, one after the other; sums, counts and what is used begin as zeros. */
function partsOf(tokens: number, vocabulary: number, width: number) {
  const chunks = Math.floor((2 * tokens) / CHUNK);
  const ints = {
    counts: vocabulary,
    used: 2,
    starts: vocabulary,
    ordinals: tokens,
    order: 3 * tokens,
    owners: chunks,
  };
  const sums = chunks * width * 8;
  return { chunks, ints, sums, zeros: sums + 4 * (vocabulary + 2) };
}

export function embeddingGrad(
  backend: CudaBackend,
  { dy, ids }: Kernels['EmbeddingGrad']['inputs'],
  { scale, vocabSize: vocabulary }: Kernels['EmbeddingGrad']['attrs'],
): TensorInfo {
  const width = dy.shape.at(-1) ?? 1;
  const tokens = sizeOf(ids.shape);
  const out = backend.output([vocabulary, width]);
  const perPack = 16 / backend.elementBytes('float32');
  const isWide = width % perPack === 0;
  const packs = isWide ? width / perPack : width;
  const { chunks, ints, sums, zeros } = partsOf(tokens, vocabulary, width);
  const bytes = sums + 4 * Object.values(ints).reduce((total, count) => total + count, 0);
  const inputs = [ids, dy, out].map((info) => backend.pointer(info)) as [number, number, number];
  backend.scratch(bytes, (scratch) => {
    backend.fill(scratch, zeros, 0);
    let next = scratch + sums;
    const places = Object.fromEntries(
      Object.entries(ints).map(([name, count]) => [name, (next += 4 * count) - 4 * count]),
    ) as Record<keyof typeof ints, number>;
    const sorted = SORTED.argument({ ids: inputs[0], ...places, tokens, vocabulary });
    const launch = (name: string, threads: number, ...args: KernelArgument[]): void => {
      const blocks = [Math.ceil(threads / THREADS)] as const;
      backend.launch({ file, name, early: true }, blocks, THREADS, [sorted, ...args]);
    };
    const [dyPlace, outPlace, sumsPlace] = [inputs[1], inputs[2], scratch].map(pointer) as [
      KernelArgument,
      KernelArgument,
      KernelArgument,
    ];
    const sizes = [int32(packs), float32(scale)];
    const any = isWide ? '' : '_any';
    launch('embedding_count', tokens);
    launch('embedding_place', vocabulary);
    launch('embedding_order', tokens);
    const columns = (vocabulary + chunks) * packs;
    launch(`embedding_grad${any}`, columns, dyPlace, outPlace, sumsPlace, ...sizes);
    if (chunks > 0) launch(`embedding_grad_finish${any}`, chunks * packs, sumsPlace, outPlace, ...sizes);
  });
  return out;
}
