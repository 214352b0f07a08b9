/**
 * Attention of one decoded token over pages, as the cross-decoder of yoco-3b has it: behind products that leave nothing of the
 * keys in a cache, as CUDA graphs without and with overlap of kernels. Prints what a layer takes beyond its product, and the
 * bytes of keys and values read per second. Arguments: types of keys and values, default all.
 */
import { cudaRecorder } from '../../src/engines/cuda/recorder.js';
import { startCuda } from '../../src/engines/cuda/index.js';
import { cacheBytes, type CacheType } from '../../src/ops/attention/cache-type.js';
import {
  CompressedPages,
  compressedAttention,
  KeyValuePages,
  linear,
  pagedAttention,
} from '../../src/ops/index.js';
import { copyRate } from '../../src/profiling/copy-rate.js';
import { median } from '../../src/sweep/statistics.js';
import * as tf from '../../src/tf.js';
import { cudaBackend } from './kernel-times.js';

const K = 1024;
const CONTEXTS = [32 * K, 128 * K, 1024 * K];
const [LAYERS, HEADS, KV_HEADS, WIDTH] = [13, 24, 8, 128];
/** The product: of about the weights that a layer reads. */
const [INNER, OUTER] = [3072, 30720];
const [BLOCK, DISTINCT, RUNS] = [8 * K, 256, 9];
const frequencies = Float64Array.from({ length: WIDTH / 2 }, (_, i) => 10000 ** ((-2 * i) / WIDTH));

const engine = await startCuda({ storage: 'bfloat16' });
const backend = cudaBackend();
process.stdout.write(`copy: ${((await copyRate(engine)) / 1e12).toFixed(2)} TB/s read and written\n`);
const weights = Array.from({ length: LAYERS }, () => tf.fill([OUTER, INNER], 0.01));
const x = tf.randomNormal([1, 1, INNER]);
const q = tf.randomNormal<tf.Rank.R4>([1, 1, HEADS, WIDTH]);

type Pages = KeyValuePages | CompressedPages;
const TYPES: readonly CacheType[] = ['bfloat16', 'float8', 'int8', 'int4'];

function attend(pages: Pages, position: number): tf.Tensor {
  const rotation = { start: position, frequencies, style: 'interleaved' } as const;
  return pages instanceof KeyValuePages
    ? pagedAttention(q, pages, { rotation })
    : compressedAttention(q, pages, { rotation });
}

/** Milliseconds of a recorded step of products, each followed by attention if there are pages. */
function stepTime(pages: Pages | null, early: boolean): number {
  const position = (pages?.length ?? 1) - 1;
  const compute = (): tf.Tensor =>
    tf.tidy(() => {
      const outs = weights.flatMap((weight) => [
        linear(x, weight),
        ...(pages === null ? [] : [attend(pages, position)]),
      ]);
      return tf.reshape(outs.at(-1) as tf.Tensor, [-1]);
    });
  compute().dispose();
  const recorded = cudaRecorder(backend, { early }).record({
    position,
    inputShape: [1],
    carried: () => [],
    compute,
  });
  if (recorded === null) return NaN;
  const input = tf.tensor1d([1], 'int32');
  const times = Array.from({ length: RUNS + 1 }, () =>
    backend.device.time(() => {
      recorded.run(input, position).dispose();
    }),
  );
  input.dispose();
  recorded.dispose();
  return median(times.slice(1));
}

const rows = tf.tidy(() =>
  tf.tile(tf.randomNormal<tf.Rank.R4>([1, DISTINCT, KV_HEADS, WIDTH]), [1, BLOCK / DISTINCT, 1, 1]),
);
const options = { batch: 1, kvHeads: KV_HEADS, headDim: WIDTH, maxTokens: Math.max(...CONTEXTS) + 1 };
const asked = process.argv.slice(2);
for (const type of TYPES.filter((type) => asked.length === 0 || asked.includes(type))) {
  const isCompressed = type !== 'bfloat16';
  const pages = isCompressed ? new CompressedPages(type, options) : new KeyValuePages(options);
  for (const context of CONTEXTS) {
    while (pages.length < context) pages.append(rows, rows);
    // One position by itself, so that those as computed are where a decoding step finds them.
    const one = tf.slice(rows, [0, 0, 0, 0], [1, 1, -1, -1]);
    if (isCompressed) pages.append(one, one);
    const bytes = context * KV_HEADS * cacheBytes(type, WIDTH, 2, isCompressed).perPosition;
    const parts = [false, true].map((early) => {
      const seconds = (stepTime(pages, early) - stepTime(null, early)) / 1000 / LAYERS;
      return `${(1e6 * seconds).toFixed(1)} µs, ${(bytes / seconds / 1e12).toFixed(2)} TB/s`;
    });
    process.stdout.write(`${type} ${context}: ${parts[0] ?? ''}, overlapping ${parts[1] ?? ''}\n`);
    pages.rewind(context);
    one.dispose();
  }
  pages.dispose();
}
