/**
 * AdamW on several ranks (Rajbhandari et al., ZeRO stages 1 and 2, arXiv 1910.02054): gradients are summed and dealt out as the
 * backward pass makes them, every rank updates its piece of the parameters with moments that it alone keeps, and the new
 * parameters are gathered.
 */
import type { Communicator, Pending, Precision } from '../distributed/communicator.js';
import { adamWAll, type AdamWUpdate, sumOfSquares } from '../ops/index.js';
import * as tf from '../tf.js';
import type { MomentReader, OptimizerOptions, TrainingOptimizer } from './optimizer.js';
import { planBuckets, type Bucket } from './shards.js';

/** A bucket, and what this rank keeps of it: vectors of `piece` elements in float32. */
interface Shard {
  readonly bucket: Bucket;
  /** Gradients of this rank that wait for the others of the bucket. */
  readonly gradients: Map<string, tf.Tensor>;
  /** The sum over all ranks of this rank's piece, once the bucket is whole; null before. */
  sum: Pending<tf.Tensor1D> | null;
  readonly parameters: tf.Variable;
  readonly first: tf.Variable;
  readonly second: tf.Variable;
}

export class ShardedOptimizer implements TrainingOptimizer {
  private readonly shards: readonly Shard[];
  private readonly shardOf: ReadonlyMap<string, Shard>;

  /** Every rank has the same parameters. */
  constructor(
    private readonly parameters: ReadonlyMap<string, tf.Variable>,
    private readonly options: OptimizerOptions,
    private readonly communicator: Communicator,
  ) {
    this.shards = planBuckets(parameters, communicator.size).map((bucket) => {
      const zeros = (): tf.Variable => tf.tidy(() => tf.variable(tf.zeros([bucket.piece]), false));
      const own = { parameters: zeros(), first: zeros(), second: zeros() };
      return { bucket, gradients: new Map(), sum: null, ...own };
    });
    this.shardOf = new Map(
      this.shards.flatMap((shard) => shard.bucket.parameters.map(({ name }) => [name, shard] as const)),
    );
    this.takeParameters();
  }

  /** Takes this rank's pieces from the parameters: at the start, and after they were loaded. */
  private takeParameters(): void {
    for (const { bucket, parameters } of this.shards) {
      tf.tidy(() => {
        const all = this.joined(bucket, this.parameters);
        parameters.assign(tf.slice(all, this.communicator.rank * bucket.piece, bucket.piece));
      });
    }
  }

  /** Starts to sum a bucket as soon as all of its gradients are there. Every rank gives them in the same order. */
  readonly take = (name: string, gradient: tf.Tensor): void => {
    const shard = this.shardOf.get(name);
    if (shard === undefined) throw new Error(`no parameter ${name}`);
    const { gradients, bucket } = shard;
    gradients.set(name, gradient);
    if (gradients.size < bucket.parameters.length) return;
    const whole = tf.tidy(() => this.joined(bucket, gradients));
    shard.sum = this.communicator.startReduceScatter(whole);
    whole.dispose();
    tf.dispose([...gradients.values()]);
    gradients.clear();
  };

  apply(gradients: ReadonlyMap<string, tf.Tensor>, step: number, learningRate: number): number {
    const { clip, beta1, beta2, epsilon, weightDecay } = this.options;
    for (const [name, gradient] of gradients) this.take(name, tf.keep(tf.clone(gradient)));
    const own = this.shards.map((shard) => sumOf(shard));
    const norm = this.norm(own);
    if (Number.isFinite(norm)) {
      const updates = this.shards.map(({ bucket, parameters, first, second }, i): AdamWUpdate => ({
        parameter: parameters,
        gradient: own[i] as tf.Tensor,
        firstMoment: first,
        secondMoment: second,
        weightDecay: bucket.decays ? weightDecay : 0,
      }));
      const scale = clip > 0 && norm > clip ? tf.scalar(clip / norm) : undefined;
      adamWAll(updates, { learningRate, beta1, beta2, epsilon, step, scale });
      scale?.dispose();
      this.spreadParameters();
    }
    tf.dispose(own);
    return norm;
  }

  /** The L2 norm of all gradients, the same number on every rank. */
  private norm(own: readonly tf.Tensor[]): number {
    const local = sumOfSquares(own);
    // JSON has no NaN and no infinity.
    const squares = this.communicator.gather(Number.isFinite(local) ? local : null) as (number | null)[];
    return Math.sqrt(squares.reduce<number>((sum, value) => sum + (value ?? NaN), 0));
  }

  /** Gives all ranks the new parameters, rounded as they are stored. */
  private spreadParameters(): void {
    this.gatherParameters('stored');
  }

  /** @param isWanted whether this rank takes the parameters over */
  private gatherParameters(precision: Precision, isWanted = true): void {
    for (const { bucket, parameters } of this.shards) {
      tf.tidy(() => {
        const all = this.communicator.allGather(parameters as tf.Tensor as tf.Tensor1D, precision);
        if (!isWanted) return;
        for (const { name, shape, offset, size } of bucket.parameters) {
          this.parameters.get(name)?.assign(tf.reshape(tf.slice(all, offset, size), [...shape]));
        }
      });
    }
  }

  /** A bucket's tensors as one vector, padded with zeros: [ranks * piece]. */
  private joined({ parameters, size, piece }: Bucket, tensors: ReadonlyMap<string, tf.Tensor>): tf.Tensor1D {
    const parts = parameters.map(({ name, size: length }) => {
      const tensor = tensors.get(name);
      if (tensor === undefined) throw new Error(`no gradient of ${name}`);
      return tf.reshape<tf.Rank.R1>(tensor, [length]);
    });
    const padding = piece * this.communicator.size - size;
    if (padding > 0) parts.push(tf.zeros([padding]));
    return parts.length === 1 ? (parts[0] as tf.Tensor1D) : tf.concat1d(parts);
  }

  /**
   * Whole moments, gathered from all ranks: every rank has to call. The first, which writes snapshots, also gets the parameters in
   * float32, of which the others have what is rounded.
   */
  state(): Map<string, tf.Tensor> {
    this.gatherParameters('float32', this.communicator.rank === 0);
    const state = new Map<string, tf.Tensor>();
    for (const kind of ['first', 'second'] as const) {
      for (const shard of this.shards) {
        const all = this.communicator.allGather(shard[kind] as tf.Tensor as tf.Tensor1D);
        for (const { name, shape, offset, size } of shard.bucket.parameters) {
          const tensor = tf.tidy(() => tf.reshape(tf.slice(all, offset, size), [...shape]));
          state.set(`${kind}.${name}`, tensor);
        }
        all.dispose();
      }
    }
    return state;
  }

  restore(read: MomentReader): void {
    for (const kind of ['first', 'second'] as const) {
      for (const shard of this.shards) {
        tf.tidy(() => {
          const moments = shard.bucket.parameters.map(({ name, shape }): [string, tf.Tensor] => [
            name,
            read(`${kind}.${name}`, shape),
          ]);
          const all = this.joined(shard.bucket, new Map(moments));
          shard[kind].assign(tf.slice(all, this.communicator.rank * shard.bucket.piece, shard.bucket.piece));
        });
      }
    }
    this.takeParameters();
  }

  dispose(): void {
    for (const { parameters, first, second } of this.shards) tf.dispose([parameters, first, second]);
  }
}

/** The sum of all ranks, of the piece that this one keeps. */
function sumOf(shard: Shard): tf.Tensor1D {
  const { sum, bucket, gradients } = shard;
  if (sum === null) {
    const missing = bucket.parameters.find(({ name }) => !gradients.has(name));
    throw new Error(`no gradient of ${missing?.name ?? 'a parameter'}`);
  }
  shard.sum = null;
  return sum.result();
}
