/** ONNX Runtime as tfjs' kernels need it: synchronous, on memory that is there already. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Api, created, loadApi, onnxruntimeDirectory } from './library.js';
import { ELEMENT_TYPES, type ElementType, encodeModel, type Graph } from './onnx.js';
import { telemetryAllowed } from './telemetry.js';

export type OnnxValues = Float32Array | Int32Array | Uint8Array | Uint16Array | Int8Array | BigInt64Array;

/** An array as ONNX Runtime sees it. */
export interface OnnxTensor {
  readonly data: OnnxValues;
  readonly dims: readonly number[];
  /** Where the array does not say it. */
  readonly type?: ElementType;
}

type Tensors = Readonly<Record<string, OnnxTensor>>;

/** A compiled graph, and the names of its inputs and outputs as pointers to C strings. */
interface Session {
  readonly handle: number;
  readonly inputs: readonly string[];
  readonly inputNames: BigUint64Array;
  readonly outputs: readonly string[];
  readonly outputNames: BigUint64Array;
  /** What the pointers point to. */
  readonly strings: readonly Buffer[];
}

/** The most inputs and outputs of a graph, and the most dimensions of a tensor. */
const MOST_TENSORS = 64;
const MOST_DIMS = 8;

/** ONNX Runtime's environment, of which a process has one: its threads and its memory serve every session. */
interface Environment {
  readonly api: Api;
  readonly handle: number;
  readonly memoryInfo: number;
  readonly threads: number;
}

let environment: Environment | undefined;

function createEnvironment(threads: number, spin: boolean): Environment {
  const api = loadApi();
  const options = created((out) => {
    api.createThreadingOptions(out);
  });
  api.setGlobalIntraOpNumThreads(options, threads);
  api.setGlobalInterOpNumThreads(options, 1);
  // The next call is never far: threads that wait for it awake save the time it takes to wake them.
  api.setGlobalSpinControl(options, spin ? 1 : 0);
  // Errors are thrown; the log would say the same again.
  const FATAL_ONLY = 4;
  const handle = created((out) => {
    api.createEnvWithGlobalThreadPools(FATAL_ONLY, 'yoco', options, out);
  });
  if (!telemetryAllowed(process.env)) api.disableTelemetryEvents(handle);
  const ARENA = 1;
  const memoryInfo = created((out) => {
    api.createCpuMemoryInfo(ARENA, 0, out);
  });
  api.createAndRegisterAllocator(handle, memoryInfo, 0);
  return { api, handle, memoryInfo, threads };
}

/** Runs small graphs, each compiled once and kept; their dimensions are symbolic, so one fits every size. */
export class OnnxRuntime {
  private readonly sessions = new Map<string, Session>();
  /** Handles of the tensors of the run in progress, and where they lie. */
  private readonly values = new BigUint64Array(MOST_TENSORS);
  private readonly valuesAddress: number;
  /** Dimensions of the tensor being made, as 64-bit integers in two halves. */
  private readonly dims = new Uint32Array(2 * MOST_DIMS);

  private constructor(
    private readonly environment: Environment,
    readonly threads: number,
    readonly version: string,
  ) {
    this.valuesAddress = Number(environment.api.address(this.values));
  }

  /** @throws the loader's error where the package has no binary for this platform. */
  static load(threads: number, spin = true): OnnxRuntime {
    environment ??= createEnvironment(threads, spin);
    const { version } = JSON.parse(readFileSync(join(onnxruntimeDirectory(), 'package.json'), 'utf8')) as {
      version: string;
    };
    return new OnnxRuntime(environment, threads, version);
  }

  /** `data` as an ONNX tensor of the given shape, without copying. */
  wrap(data: OnnxValues, dims: readonly number[], type?: ElementType): OnnxTensor {
    return { data, dims, type };
  }

  /** Runs the graph known as `key`, defining it on first use; results are written into `fetches`. */
  run(key: string, define: () => Graph, feeds: Tensors, fetches: Tensors): void {
    let session = this.sessions.get(key);
    if (session === undefined) {
      session = this.compile(define());
      this.sessions.set(key, session);
    }
    const { handle, inputs, inputNames, outputs, outputNames } = session;
    const { api } = this.environment;
    let made = 0;
    try {
      for (const name of inputs) this.make(made++, feeds[name]);
      for (const name of outputs) this.make(made++, fetches[name]);
      const outputValues = this.valuesAddress + 8 * inputs.length;
      api.run(handle, 0, inputNames, this.valuesAddress, inputs.length, outputNames, outputs.length, outputValues); // prettier-ignore
    } finally {
      for (let i = 0; i < made; i++) {
        api.releaseValue(this.values[i] as bigint);
        this.values[i] = 0n;
      }
    }
  }

  /** Makes the handle number `index` of the run in progress. */
  private make(index: number, tensor: OnnxTensor | undefined): void {
    if (tensor === undefined) throw new Error('A graph misses an input or output');
    const { data, dims, type } = tensor;
    const size = dims.length;
    if (size > MOST_DIMS) throw new Error(`A tensor has ${size} dimensions, more than ${MOST_DIMS}`);
    for (let i = 0; i < size; i++) this.dims[2 * i] = dims[i] as number;
    const { api, memoryInfo } = this.environment;
    const target = this.valuesAddress + 8 * index;
    api.createTensorWithData(
      memoryInfo,
      data,
      data.byteLength,
      this.dims,
      size,
      ELEMENT_TYPES[type ?? elementType(data)],
      target,
    );
  }

  private compile(graph: Graph): Session {
    const { api, handle: env, threads } = this.environment;
    const model = encodeModel(graph);
    const options = created((out) => {
      api.createSessionOptions(out);
    });
    api.addSessionConfigEntry(options, 'session.use_env_allocators', '1');
    // A second engine with another number of threads has to bring its own, which then sleep between runs.
    if (threads === this.threads) api.disablePerSessionThreads(options);
    else {
      api.setIntraOpNumThreads(options, this.threads);
      api.addSessionConfigEntry(options, 'session.intra_op.allow_spinning', '0');
    }
    const handle = created((out) => {
      api.createSessionFromArray(env, model, model.byteLength, options, out);
    });
    const inputs = graph.inputs.map(({ name }) => name);
    const outputs = graph.outputs.map(({ name }) => name);
    if (inputs.length + outputs.length > MOST_TENSORS)
      throw new Error(`A graph has more than ${MOST_TENSORS} inputs and outputs`);
    const strings = [...inputs, ...outputs].map((name) => Buffer.from(`${name}\0`));
    const pointers = strings.map((text) => api.address(text));
    return {
      handle,
      inputs,
      inputNames: BigUint64Array.from(pointers.slice(0, inputs.length)),
      outputs,
      outputNames: BigUint64Array.from(pointers.slice(inputs.length)),
      strings,
    };
  }
}

function elementType(data: OnnxValues): ElementType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Int8Array) return 'int8';
  if (data instanceof Uint16Array) return 'float16';
  return data instanceof Uint8Array ? 'bool' : 'int64';
}
