/**
 * ONNX Runtime reached through its native, synchronous binding: tfjs kernels are synchronous functions, while
 * the package's public `InferenceSession` wraps the same call in a promise.
 */
import { createRequire } from 'node:module';
import type { InferenceSession, Tensor, TensorConstructor } from 'onnxruntime-common';
import { encodeModel, type Graph } from './onnx.js';

type Feeds = Readonly<Record<string, Tensor>>;

interface NativeSession {
  loadModel(
    model: ArrayBuffer,
    byteOffset: number,
    byteLength: number,
    options: InferenceSession.SessionOptions,
  ): void;
  run(feeds: Feeds, fetches: Feeds, options: InferenceSession.RunOptions): unknown;
}

interface Binding {
  initOrt: () => void;
  binding: { InferenceSession: new () => NativeSession };
}

const NO_OPTIONS = {};

/** Runs small graphs, each compiled once and kept; their dimensions are symbolic, so one fits every size. */
export class OnnxRuntime {
  private readonly sessions = new Map<string, NativeSession>();

  private constructor(
    private readonly native: Binding['binding'],
    private readonly tensor: TensorConstructor,
    readonly threads: number,
    readonly version: string,
  ) {}

  /** @throws the loader's error where the package has no binary for this platform. */
  static load(threads: number): OnnxRuntime {
    const require = createRequire(import.meta.url);
    const { initOrt, binding } = require('onnxruntime-node/dist/binding.js') as Binding;
    const { Tensor } = require('onnxruntime-common') as { Tensor: TensorConstructor };
    const { version } = require('onnxruntime-node/package.json') as { version: string };
    initOrt();
    return new OnnxRuntime(binding, Tensor, threads, version);
  }

  /** `data` as an ONNX tensor of the given shape, without copying. */
  wrap(data: Float32Array | Int32Array | Uint8Array | BigInt64Array, dims: readonly number[]): Tensor {
    if (data instanceof Float32Array) return new this.tensor('float32', data, dims);
    if (data instanceof Int32Array) return new this.tensor('int32', data, dims);
    if (data instanceof Uint8Array) return new this.tensor('bool', data, dims);
    return new this.tensor('int64', data, dims);
  }

  /** Runs the graph known as `key`, defining it on first use; results are written into `fetches`. */
  run(key: string, define: () => Graph, feeds: Feeds, fetches: Feeds): void {
    let session = this.sessions.get(key);
    if (session === undefined) {
      session = this.compile(define());
      this.sessions.set(key, session);
    }
    session.run(feeds, fetches, NO_OPTIONS);
  }

  private compile(graph: Graph): NativeSession {
    const model = encodeModel(graph);
    const session = new this.native.InferenceSession();
    session.loadModel(model.buffer, 0, model.byteLength, {
      intraOpNumThreads: this.threads,
      interOpNumThreads: 1,
      // One arena per session would hold on to memory that no other session can use.
      enableCpuMemArena: false,
      // Every session has its own threads. Left spinning, those of one session starve the next one's: twenty
      // alternating sessions take 42 ms spinning and 1.7 ms sleeping on two cores.
      extra: { session: { intra_op: { allow_spinning: '0' }, inter_op: { allow_spinning: '0' } } },
    });
    return session;
  }
}
