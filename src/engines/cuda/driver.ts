import koffi from 'koffi';
import { OutOfMemoryError, RunError } from '../../errors.js';
import { launchConfiguration } from './launch.js';
import { type NativeFunction, openLibrary } from './libraries.js';

/** The part of the CUDA driver API the engine uses; every call throws on a non-zero result. */
export interface Driver {
  readonly version: number;
  readonly deviceName: string;
  /** GPUs that this process sees. */
  readonly deviceCount: number;
  /** `sm_90a` on Hopper: the `a` unlocks wgmma; plain `sm_XY` elsewhere. */
  readonly architecture: string;
  readonly multiprocessors: number;
  /** Bytes of shared memory that the blocks on one multiprocessor divide between them. */
  readonly sharedBytes: number;
  /** Free bytes of the device when the context had been made, the earliest that the driver answers. */
  readonly freeAtStart: number;
  allocate(bytes: number): number | null;
  free(pointer: number): void;
  memoryInfo(): { free: number; total: number };
  upload(pointer: number, host: ArrayBufferView): void;
  download(host: ArrayBufferView, pointer: number): void;
  /** Host memory that the device reaches by itself, until the process ends. */
  allocateHost(bytes: number): { address: number; bytes: ArrayBuffer };
  /** Queues a copy to such memory; it is there once an event after it has been waited for. */
  downloadLater(host: number, pointer: number, bytes: number): void;
  copy(destination: number, source: number, bytes: number): void;
  fill(pointer: number, bytes: number, byte: number): void;
  loadModule(image: Uint8Array): number;
  getFunction(module: number, name: string): number;
  allowSharedMemory(kernel: number, bytes: number): void;
  launch: NativeFunction;
  /**
   * Launches a kernel that waits itself for the one before it, which may then still run when its blocks start; `parameters` as
   * for `launch`.
   */
  launchEarly(
    kernel: number,
    grid: readonly number[],
    threads: number,
    shared: number,
    parameters: ArrayBufferView,
  ): void;
  readonly stream: number;
  /** Queues what another library launches on the main stream; a kernel after it is not launched early. */
  queue(work: (stream: number) => void): void;
  /** Another stream, for work that is ordered by events. */
  createStream(): number;
  createEvent(): number;
  /** Records the event at the end of what is queued on the main stream, or on another. */
  recordEvent(event: number, stream?: number): void;
  /** What is queued on the stream from now on waits for the event. */
  streamWaits(stream: number, event: number): void;
  waitEvent(event: number): void;
  /** Milliseconds between two recorded events. */
  elapsed(start: number, end: number): number;
  destroyEvent(event: number): void;
  synchronize(): void;
  /** From here on what is queued is noted instead of executed; uploads and waiting are refused. */
  beginCapture(): void;
  /** Ends it: the executable graph of what was noted. */
  endCapture(): number;
  /** Ends it and forgets what was noted; for errors, so it throws none. */
  abandonCapture(): void;
  launchGraph(graph: number): void;
  destroyGraph(graph: number): void;
  /** Destroys all that are left: from then on they cannot be launched. */
  destroyGraphs(): void;
  encodeTensorMap: NativeFunction;
  check(code: number, what: string): void;
}

/** Of an architecture as `sm_90a`: later ones have what plain compute capability 9.0 has. */
export function isHopperOrNewer(architecture: string): boolean {
  return Number.parseInt(architecture.slice('sm_'.length)) >= 90;
}

const OUT_OF_MEMORY = 2;
const ATTRIBUTE = { multiprocessors: 16, sharedBytes: 81, major: 75, minor: 76 } as const;
const MAX_DYNAMIC_SHARED_SIZE = 8;
/** CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION. */
const EARLY = 6;
/** CU_STREAM_CAPTURE_MODE_RELAXED: memory may be allocated and modules loaded meanwhile. */
const CAPTURE_RELAXED = 2;

const P = 'void *';
const U64 = 'uint64';
const I32 = 'int';
const U32 = 'uint32';

function readAddress(cell: BigUint64Array): number {
  return Number(cell[0]);
}

/** Opens the driver and makes a context on `device`. Throws {@link RunError} where there is no driver or GPU. */
export function openDriver(device = 0): Driver {
  const library = openLibrary('libcuda', [1], 'it comes with the NVIDIA driver');
  const check = (code: number, what: string): void => {
    if (code === 0) return;
    if (code === OUT_OF_MEMORY) throw new OutOfMemoryError(`out of GPU memory in ${what}`);
    throw new RunError(`CUDA error ${code} in ${what}`);
  };
  const checked = (name: string, types: string[]): NativeFunction => {
    const call = library.bind(name, types);
    return (...args) => {
      const code = call(...args);
      if (code !== 0) check(code, name);
      return code;
    };
  };

  const cell = new BigUint64Array(2);
  const word = new Int32Array(2);
  const initialised = library.bind('cuInit', [U32])(0);
  if (initialised !== 0)
    throw new RunError(`the cuda engine found no usable NVIDIA GPU (cuInit: ${initialised})`);
  checked('cuDeviceGetCount', [P])(word);
  const count = word[0] ?? 0;
  // A launcher may show each process its own GPU only: that one is device 0.
  const index = count === 1 ? 0 : device;
  if (index >= count) {
    throw new RunError(
      `the cuda engine was told to take GPU ${index}, but this machine has ${count}: start ${count} processes on it`,
    );
  }
  checked('cuDeviceGet', [P, I32])(word, index);
  const handle = word[0] ?? 0;
  const name = Buffer.alloc(256);
  checked('cuDeviceGetName', [P, I32, I32])(name, 255, handle);
  const getAttribute = checked('cuDeviceGetAttribute', [P, I32, I32]);
  const attribute = (which: number): number => {
    getAttribute(word, which, handle);
    return word[0] ?? 0;
  };
  checked('cuDriverGetVersion', [P])(word);
  const version = word[0] ?? 0;
  checked('cuDevicePrimaryCtxRetain', [P, I32])(cell, handle);
  checked('cuCtxSetCurrent', [U64])(readAddress(cell));
  const [major, minor] = [attribute(ATTRIBUTE.major), attribute(ATTRIBUTE.minor)];
  if (major < 8) {
    throw new RunError(
      `the cuda engine needs compute capability 8.0 or newer; this GPU has ${major}.${minor}`,
    );
  }
  const createStream = (): number => {
    checked('cuStreamCreate', [P, U32])(cell, 1);
    return readAddress(cell);
  };
  const stream = createStream();

  const allocate = library.bind('cuMemAlloc_v2', [P, U64]);
  const free = checked('cuMemFree_v2', [U64]);
  const memGetInfo = checked('cuMemGetInfo_v2', [P, P]);
  const memoryInfo = (): { free: number; total: number } => {
    memGetInfo(cell, cell.subarray(1));
    return { free: Number(cell[0]), total: Number(cell[1]) };
  };
  const upload = checked('cuMemcpyHtoDAsync_v2', [U64, P, U64, U64]);
  const download = checked('cuMemcpyDtoHAsync_v2', [P, U64, U64, U64]);
  const allocateHost = checked('cuMemAllocHost_v2', [P, U64]);
  const downloadLater = checked('cuMemcpyDtoHAsync_v2', [U64, U64, U64, U64]);
  const copy = checked('cuMemcpyDtoDAsync_v2', [U64, U64, U64, U64]);
  const memset = checked('cuMemsetD8Async', [U64, 'uint8', U64, U64]);
  const moduleLoad = checked('cuModuleLoadData', [P, P]);
  const moduleFunction = checked('cuModuleGetFunction', [P, U64, 'str']);
  const setAttribute = checked('cuFuncSetAttribute', [U64, I32, I32]);
  const eventCreate = checked('cuEventCreate', [P, U32]);
  const eventRecord = checked('cuEventRecord', [U64, U64]);
  const streamWaitEvent = checked('cuStreamWaitEvent', [U64, U64, U32]);
  const eventSynchronize = checked('cuEventSynchronize', [U64]);
  const eventElapsed = checked('cuEventElapsedTime', [P, U64, U64]);
  const eventDestroy = checked('cuEventDestroy_v2', [U64]);
  const streamSynchronize = checked('cuStreamSynchronize', [U64]);
  const captureBegin = checked('cuStreamBeginCapture_v2', [U64, I32]);
  const captureEnd = library.bind('cuStreamEndCapture', [U64, P]);
  const graphInstantiate = checked('cuGraphInstantiateWithFlags', [P, U64, U64]);
  const graphLaunch = checked('cuGraphLaunch', [U64, U64]);
  const graphDestroy = checked('cuGraphDestroy', [U64]);
  const graphExecDestroy = checked('cuGraphExecDestroy', [U64]);
  const launch = checked('cuLaunchKernel', [U64, U32, U32, U32, U32, U32, U32, U32, U64, P, P]);
  const launchWith = checked('cuLaunchKernelEx', [P, U64, P, P]);
  const earlyConfiguration = launchConfiguration(stream, EARLY, koffi.address);
  const milliseconds = new Float32Array(1);
  let [isCapturing, isBehindKernel] = [false, false];
  /** Executable ones that are not destroyed. */
  const graphs = new Set<number>();

  return {
    version,
    deviceName: name.toString('utf8', 0, name.indexOf(0)),
    deviceCount: count,
    architecture: major === 9 ? 'sm_90a' : `sm_${major}${minor}`,
    multiprocessors: attribute(ATTRIBUTE.multiprocessors),
    sharedBytes: attribute(ATTRIBUTE.sharedBytes),
    freeAtStart: memoryInfo().free,
    stream,
    allocate(bytes) {
      const code = allocate(cell, bytes);
      if (code === OUT_OF_MEMORY) return null;
      check(code, 'cuMemAlloc');
      return readAddress(cell);
    },
    free: (pointer) => void free(pointer),
    memoryInfo,
    // Pageable host memory: the driver has taken its copy when the call returns, so `host` may change at once.
    upload(pointer, host) {
      if (isCapturing) throw new Error('host memory is uploaded while a step is recorded');
      upload(pointer, host, host.byteLength, stream);
    },
    download(host, pointer) {
      if (isCapturing) throw new Error('a result is read while a step is recorded');
      download(host, pointer, host.byteLength, stream);
      streamSynchronize(stream);
    },
    allocateHost(bytes) {
      allocateHost(cell, bytes);
      return { address: readAddress(cell), bytes: koffi.view(cell[0], bytes) };
    },
    downloadLater(host, pointer, bytes) {
      if (isCapturing) throw new Error('a result is read while a step is recorded');
      isBehindKernel = false;
      downloadLater(host, pointer, bytes, stream);
    },
    copy(destination, source, bytes) {
      isBehindKernel = false;
      copy(destination, source, bytes, stream);
    },
    fill(pointer, bytes, byte) {
      isBehindKernel = false;
      memset(pointer, byte, bytes, stream);
    },
    loadModule(image) {
      moduleLoad(cell, image);
      return readAddress(cell);
    },
    getFunction(module, kernel) {
      moduleFunction(cell, module, kernel);
      return readAddress(cell);
    },
    allowSharedMemory: (kernel, bytes) => void setAttribute(kernel, MAX_DYNAMIC_SHARED_SIZE, bytes),
    launch(...args) {
      isBehindKernel = true;
      return launch(...args);
    },
    launchEarly(kernel, [x = 1, y = 1, z = 1], threads, shared, parameters) {
      // After a copy there is no kernel to wait for.
      if (isBehindKernel) launchWith(earlyConfiguration(x, y, z, threads, shared), kernel, parameters, null);
      else launch(kernel, x, y, z, threads, 1, 1, shared, stream, parameters, null);
      isBehindKernel = true;
    },
    queue(work) {
      isBehindKernel = false;
      work(stream);
    },
    createStream,
    createEvent() {
      eventCreate(cell, 0);
      return readAddress(cell);
    },
    recordEvent: (event, on = stream) => void eventRecord(event, on),
    streamWaits: (waiting, event) => void streamWaitEvent(waiting, event, 0),
    waitEvent: (event) => void eventSynchronize(event),
    elapsed(start, end) {
      eventElapsed(milliseconds, start, end);
      return milliseconds[0] ?? 0;
    },
    destroyEvent: (event) => void eventDestroy(event),
    synchronize: () => void streamSynchronize(stream),
    beginCapture() {
      captureBegin(stream, CAPTURE_RELAXED);
      [isCapturing, isBehindKernel] = [true, false];
    },
    endCapture() {
      isCapturing = false;
      check(captureEnd(stream, cell), 'cuStreamEndCapture');
      const graph = readAddress(cell);
      try {
        graphInstantiate(cell, graph, 0);
      } finally {
        graphDestroy(graph);
      }
      graphs.add(readAddress(cell));
      return readAddress(cell);
    },
    abandonCapture() {
      if (isCapturing && captureEnd(stream, cell) === 0) graphDestroy(readAddress(cell));
      isCapturing = false;
    },
    launchGraph(graph) {
      if (!graphs.has(graph)) throw new Error('the recording has ended');
      graphLaunch(graph, stream);
    },
    destroyGraph(graph) {
      if (graphs.delete(graph)) graphExecDestroy(graph);
    },
    destroyGraphs() {
      for (const graph of graphs) graphExecDestroy(graph);
      graphs.clear();
    },
    encodeTensorMap: checked('cuTensorMapEncodeTiled', [P, I32, U32, U64, P, P, P, P, I32, I32, I32, I32]),
    check,
  };
}
