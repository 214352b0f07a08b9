/**
 * AdamW on several ranks (Rajbhandari et al., ZeRO stage 1, arXiv 1910.02054): gradients are summed and dealt out, every rank
 * updates its piece of the parameters with moments that it alone keeps, and the new parameters are gathered.
 */
import type { Communicator } from '../distributed/communicator.js';
import { adamWAll, type AdamWUpdate } from '../ops/index.js';
import * as tf from '../tf.js';
import type { MomentReader, OptimizerOptions, TrainingOptimizer } from './optimizer.js';
import { planBuckets, type Bucket } from './shards.js';

/** A bucket, and what this rank keeps of it: vectors of `piece` elements in float32. */
interface Shard {
  readonly bucket: Bucket;
  readonly parameters: tf.Variable;
  readonly first: tf.Variable;
  readonly second: tf.Variable;
}

export class ShardedOptimizer implements TrainingOptimizer {
  private readonly shards: readonly Shard[];

  /** Every rank has the same parameters. */
  constructor(
    private readonly parameters: ReadonlyMap<string, tf.Variable>,
    private readonly options: OptimizerOptions,
    private readonly communicator: Communicator,
  ) {
    this.shards = planBuckets(parameters, communicator.size).map((bucket) => {
      const zeros = (): tf.Variable => tf.tidy(() => tf.variable(tf.zeros([bucket.piece]), false));
      return { bucket, parameters: zeros(), first: zeros(), second: zeros() };
    });
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

  apply(gradients: ReadonlyMap<string, tf.Tensor>, step: number, learningRate: number): number {
    const { clip, beta1, beta2, epsilon, weightDecay } = this.options;
    const own = this.shards.map(({ bucket }) =>
      tf.tidy(() => this.communicator.reduceScatter(this.joined(bucket, gradients))),
    );
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
    const local = own.map((piece) => {
      const square = tf.tidy(() => tf.sum(tf.square(piece)));
      const value = square.dataSync()[0] ?? 0;
      square.dispose();
      // JSON has no NaN and no infinity.
      return Number.isFinite(value) ? value : null;
    });
    const squares = this.communicator.gather(local).flat() as (number | null)[];
    return Math.sqrt(squares.reduce<number>((sum, value) => sum + (value ?? NaN), 0));
  }

  private spreadParameters(): void {
    for (const { bucket, parameters } of this.shards) {
      tf.tidy(() => {
        const all = this.communicator.allGather(parameters as tf.Tensor as tf.Tensor1D);
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

  /** Whole moments, gathered from all ranks: every rank has to call. */
  state(): Map<string, tf.Tensor> {
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
