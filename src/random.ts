import { createHash } from 'node:crypto';

const TWO_POW_32 = 2 ** 32;
const TWO_POW_53 = 2 ** 53;

/**
 * Seeded random numbers: xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number generators",
 * 2018), seeded through SHA-256. It uses only 32-bit integer operations, IEEE arithmetic, `Math.sqrt`, and `Math.log` of which V8
 * carries its own, so that every platform draws the same numbers.
 */
export class Random {
  readonly seed: string;
  private a: number;
  private b: number;
  private c: number;
  private d: number;
  private spare: number | null = null;

  /** @param seed any number or text; equal seeds (after conversion to text) give equal streams. */
  constructor(seed: number | string) {
    this.seed = String(seed);
    const digest = createHash('sha256').update(this.seed).digest();
    this.a = digest.readUInt32LE(0);
    this.b = digest.readUInt32LE(4);
    this.c = digest.readUInt32LE(8);
    this.d = digest.readUInt32LE(12);
  }

  /**
   * An independent stream named by `label`. It depends on this generator's seed and the label only, never on how
   * much has been drawn: adding a draw somewhere does not shift the streams elsewhere.
   */
  fork(label: string | number): Random {
    return new Random(`${this.seed}/${label}`);
  }

  /** 32 random bits as an unsigned integer. */
  uint32(): number {
    const scrambled = Math.imul(this.b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= shifted;
    this.d = (this.d << 11) | (this.d >>> 21);
    return result;
  }

  /** Uniform in [0, 1), 53 bits. */
  uniform(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 67108864 + low) / TWO_POW_53;
  }

  /** Uniform integer in [0, n), without modulo bias. */
  below(n: number): number {
    if (!Number.isSafeInteger(n) || n < 1) throw new RangeError(`below(${n}): n must be a positive integer`);
    const small = n <= TWO_POW_32;
    const range = small ? TWO_POW_32 : TWO_POW_53;
    const limit = range - (range % n);
    for (;;) {
      const draw = small ? this.uint32() : this.uniform() * TWO_POW_53;
      if (draw < limit) return draw % n;
    }
  }

  /** Standard normal variate, by Marsaglia's polar method. */
  normal(): number {
    if (this.spare !== null) {
      const value = this.spare;
      this.spare = null;
      return value;
    }
    for (;;) {
      const x = 2 * this.uniform() - 1;
      const y = 2 * this.uniform() - 1;
      const square = x * x + y * y;
      if (square >= 1 || square === 0) continue;
      const factor = Math.sqrt((-2 * Math.log(square)) / square);
      this.spare = y * factor;
      return x * factor;
    }
  }

  /** Fills `target` with normal variates of the given mean and standard deviation. */
  fillNormal(target: Float32Array, mean = 0, standardDeviation = 1): Float32Array {
    for (let i = 0; i < target.length; i++) target[i] = mean + standardDeviation * this.normal();
    return target;
  }

  /** Fills `target` with values uniform in [low, high). */
  fillUniform(target: Float32Array, low = 0, high = 1): Float32Array {
    for (let i = 0; i < target.length; i++) target[i] = low + (high - low) * this.uniform();
    return target;
  }

  /** Shuffles in place (Fisher and Yates) and returns the same array. */
  shuffle<T extends unknown[] | Int32Array | Uint32Array>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const held = items[i];
      items[i] = items[j];
      items[j] = held;
    }
    return items;
  }

  /** One of the items, each as likely as the others. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
}
