/** The rate of a large matrix product: what the engine's matmuls reach at best, and of which other work is said to reach a share. */
import type { Engine } from '../engines/engine.js';
import { linear } from '../ops/index.js';
import { Random } from '../random.js';
import * as tf from '../tf.js';
import { ELEMENT_BYTES } from './memory-budget.js';

/** Rows and columns of the matrix: doubled until a product takes so many seconds. */
const [SMALLEST, LARGEST, LONG_ENOUGH] = [64, 8192, 0.005];
/** Of the memory available, for the matrix and its product. */
const SHARE_OF_MEMORY = 1 / 64;
/** Runs of a size, of which the fastest counts: a disturbed one must not end the search. */
const RUNS = 3;
/**
 * Seconds of a measurement, and the most products in it: enough for waiting for the engine not to count, too short to change the
 * state in which other work has left the device.
 */
const [SECONDS, MOST_PRODUCTS] = [0.03, 64];
const DRAWS = 4099;

/**
 * Measures products of one size. A GPU that is held at a power multiplies faster while it is cool, so that a share compares like with
 * like where the product is measured directly after the work. No tensor is kept between measurements.
 */
export class ProductRate {
  private constructor(
    private readonly engine: Engine,
    /** Rows and columns of the matrix. */
    readonly size: number,
    /** Products of a measurement. */
    readonly count: number,
  ) {}

  /** Finds a size that is large for the engine and takes tens of milliseconds at most. */
  static async choose(engine: Engine): Promise<ProductRate> {
    const mostBytes = SHARE_OF_MEMORY * engine.availableBytes();
    const fits = (size: number): boolean => 2 * size ** 2 * ELEMENT_BYTES[engine.storage] <= mostBytes;
    for (let size = SMALLEST; ; size *= 2) {
      const seconds = await fastestRun(engine, size, 1, RUNS);
      if (seconds < LONG_ENOUGH && 2 * size <= LARGEST && fits(2 * size)) continue;
      const count = Math.round(SECONDS / seconds);
      return new ProductRate(engine, size, Math.min(MOST_PRODUCTS, Math.max(1, count)));
    }
  }

  /** Operations per second of products one after the other, in the engine's storage type. */
  async measure(): Promise<number> {
    const { engine, size, count } = this;
    return (count * 2 * size ** 3) / (await fastestRun(engine, size, count, 1));
  }
}

/** Seconds of the fastest of `runs` runs of `count` products, from an idle engine to an idle engine. */
async function fastestRun(engine: Engine, size: number, count: number, runs: number): Promise<number> {
  const x = matrix(size);
  try {
    // The first one chooses and compiles kernels, and takes the memory of those that are timed.
    linear(x, x).dispose();
    let fastest = Infinity;
    for (let run = 0; run < runs; run++) {
      await engine.synchronize();
      const began = performance.now();
      for (let i = 0; i < count; i++) linear(x, x).dispose();
      await engine.synchronize();
      fastest = Math.min(fastest, (performance.now() - began) / 1000);
    }
    return fastest;
  } finally {
    x.dispose();
  }
}

/** Random values, which take more power than zeros; rows repeat after 4,099. */
function matrix(size: number): tf.Tensor2D {
  return tf.tidy(() => {
    const draws = tf.tensor1d(new Random('product').fillNormal(new Float32Array(DRAWS), 0, 1));
    const tiled = tf.tile(draws, [Math.ceil(size ** 2 / DRAWS)]);
    return tf.reshape<tf.Rank.R2>(tf.slice(tiled, 0, size ** 2), [size, size]);
  });
}
