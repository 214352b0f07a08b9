/**
 * Causal attention in bfloat16, of layers in training and of a chunk of a prefill: each kernel of the forward pass and of the gradient.
 * Prints microseconds of a call and the rate of the products that it needs, of keys that are seen.
 *
 *   node --import tsx bench/cuda/attention.ts [SOURCE.CONSTANT=NUMBER...]
 *
 * Constants replace those of src/engines/cuda/tiles.ts, as attention_hopper.TURNS_64=0.
 */
import { startCuda } from '../../src/engines/cuda/index.js';
import { TILES } from '../../src/engines/cuda/tiles.js';
import { causalAttention } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { callTimes } from './kernel-times.js';

interface Shape {
  batch: number;
  queries: number;
  keys: number;
  heads: number;
  kvHeads: number;
  width: number;
  window?: number;
  trains: boolean;
}
const layer = (batch: number, positions: number, heads: number, width: number): Shape => ({
  batch, queries: positions, keys: positions, heads, kvHeads: heads, width, trains: true,
}); // prettier-ignore
const SHAPES: Readonly<Record<string, Shape>> = {
  '160m': layer(16, 2048, 12, 64),
  '160m, window of 512': { ...layer(16, 2048, 12, 64), window: 512 },
  '1.4b': layer(4, 2048, 16, 128),
  tiny: layer(32, 2048, 4, 64),
  'long, heads of 64': layer(1, 16384, 12, 64),
  'long, heads of 128': layer(1, 16384, 12, 128),
  'yoco-3b, last chunk of 131,072': {
    batch: 1, queries: 8192, keys: 131072, heads: 24, kvHeads: 8, width: 128, trains: false,
  }, // prettier-ignore
};
const RUNS = 10;
/** Milliseconds of copies ahead, for the host to get ahead. */
const BACKLOG = 20;
/** Products of a pair of query and key, by kernel. */
const PRODUCTS: Readonly<Record<string, number>> = {
  attention_forward: 2,
  attention_hopper_grad_query: 3,
  attention_grad_query: 3,
  attention_hopper_grad_key: 4,
  attention_grad_key: 4,
};

for (const argument of process.argv.slice(2)) {
  const [, file = '', constant = '', value] = /^(\w+)\.(\w+)=(\d+)$/.exec(argument) ?? [];
  const tiles = (TILES as Record<string, Record<string, number> | undefined>)[file];
  if (tiles?.[constant] === undefined) throw new Error(`no constant of tiles.ts: ${argument}`);
  tiles[constant] = Number(value);
}
await startCuda({ storage: 'bfloat16' });

/** Pairs of a query and a key that it sees, of one head. */
function pairsOf({ queries, keys, window = keys }: Shape): number {
  let pairs = 0;
  for (let last = keys - queries; last < keys; last++) pairs += Math.min(window, last + 1);
  return pairs;
}

for (const [name, shape] of Object.entries(SHAPES)) {
  const { batch, queries, keys, heads, kvHeads, width, window = null, trains } = shape;
  // The host draws random numbers, slowly: those of one sequence do for all.
  const rows = (positions: number, count: number): tf.Tensor4D =>
    tf.tidy(() => tf.tile(tf.randomNormal<tf.Rank.R4>([1, positions, count, width]), [batch, 1, 1, 1]));
  const [q, k, v, dy] = [
    rows(queries, heads),
    rows(keys, kvHeads),
    rows(keys, kvHeads),
    rows(queries, heads),
  ];
  const attend = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor =>
    causalAttention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, { window });
  const work = () => (trains ? tf.grads(attend)([q, k, v], dy) : attend(q, k, v));
  const flops = 2 * width * batch * heads * pairsOf(shape);
  const parts = callTimes(work, { runs: RUNS, backlog: BACKLOG }).map((time) => {
    const each = time.milliseconds / time.count;
    const products = PRODUCTS[time.name];
    const rate = products === undefined ? '' : ` (${((products * flops) / each / 1e9).toFixed(0)} TFLOP/s)`;
    return `${time.name} ${(1000 * each).toFixed(1)}${rate}`;
  });
  process.stdout.write(`${name}: ${parts.join(', ')}\n`);
  tf.dispose([q, k, v, dy]);
}
