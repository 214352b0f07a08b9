/** What the engine's matmuls reach at best, against which training is compared: model FLOP/s utilisation (MFU). */
import type { Engine } from '../engines/engine.js';
import { linear } from '../ops/index.js';
import { Random } from '../random.js';
import * as tf from '../tf.js';

/** Rows and columns of the matrices that are tried, until one takes long enough. */
const SIZES = [512, 1024, 2048, 4096, 8192];
const LONG_ENOUGH = 0.05;
const REPEATS = 3;
const DRAWS = 4099;

/**
 * Operations per second of the fastest of three square matmuls, in the engine's storage type, of a size that takes at least
 * 50 ms, at most 8,192. It takes a second or so.
 */
export async function measureMatmulFlops(engine: Pick<Engine, 'synchronize'>): Promise<number> {
  let best = 0;
  for (const size of SIZES) {
    const seconds = await fastestProduct(engine, size);
    best = Math.max(best, (2 * size ** 3) / seconds);
    if (seconds >= LONG_ENOUGH) break;
  }
  return best;
}

async function fastestProduct(engine: Pick<Engine, 'synchronize'>, size: number): Promise<number> {
  const [x, weight] = [matrix(size, 'x'), matrix(size, 'weight')];
  let fastest = Infinity;
  try {
    // The first one chooses and compiles kernels.
    for (let repeat = 0; repeat <= REPEATS; repeat++) {
      await engine.synchronize();
      const began = performance.now();
      const y = linear(x, weight);
      await engine.synchronize();
      const seconds = (performance.now() - began) / 1000;
      y.dispose();
      if (repeat > 0) fastest = Math.min(fastest, seconds);
    }
  } finally {
    tf.dispose([x, weight]);
  }
  return fastest;
}

/** Random values, which take more power than zeros; they repeat. */
function matrix(size: number, seed: string): tf.Tensor2D {
  return tf.tidy(() => {
    const draws = tf.tensor1d(new Random(seed).fillNormal(new Float32Array(DRAWS), 0, 1));
    const tiled = tf.tile(draws, [Math.ceil(size ** 2 / DRAWS)]);
    return tf.reshape<tf.Rank.R2>(tf.slice(tiled, 0, size ** 2), [size, size]);
  });
}
