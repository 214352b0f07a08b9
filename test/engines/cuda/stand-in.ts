/** A device without a GPU: memory is counted, what is queued is noted and nothing is computed. */
import { type SegmentSource, CachingAllocator } from '../../../src/engines/cuda/allocator.js';
import type { CublasMatmul, MatmulProblem, MatrixType, Pointers } from '../../../src/engines/cuda/cublas.js';
import type { Device } from '../../../src/engines/cuda/device.js';
import type { Driver } from '../../../src/engines/cuda/driver.js';
import { SmallReads } from '../../../src/engines/cuda/small-reads.js';
import type { KernelArgument } from '../../../src/engines/cuda/launch.js';

export interface Launch {
  name: string;
  /** Its source, of kernels that may start early. */
  early?: string;
  args: readonly KernelArgument[];
  grid: readonly (number | undefined)[];
  /** What its floats are stored in, of kernels and products. */
  storage?: MatrixType;
  /** Of products. */
  product?: MatmulProblem & Pointers;
}

export interface StandIn {
  device: Device;
  /** Kernels launched and copies made outside of recordings. */
  launches: Launch[];
  /** What each living graph holds. */
  graphs: Map<number, Launch[]>;
  /** Graphs launched, in order. */
  replays: number[];
  uploads: { address: number; bytes: Uint8Array }[];
  /** Notes what another library is called for. */
  note: (name: string, details?: Partial<Launch>) => void;
}

export function standIn(): StandIn {
  const state: Omit<StandIn, 'device' | 'note'> = {
    launches: [],
    graphs: new Map(),
    replays: [],
    uploads: [],
  };
  let captured: Launch[] | null = null;
  let [next, nextGraph] = [2 ** 40, 1];
  const note = (name: string, details: Partial<Launch> = {}): void => {
    (captured ?? state.launches).push({ name, args: [], grid: [], ...details });
  };
  const memory: SegmentSource = {
    allocate(bytes) {
      const address = next;
      next += bytes;
      return address;
    },
    free: () => undefined,
  };
  const refuseInCapture = (): void => {
    if (captured !== null) throw new Error('not while a step is recorded');
  };
  const driver = {
    ...memory,
    multiprocessors: 132,
    sharedBytes: 233472,
    architecture: 'sm_90a',
    deviceName: 'stand-in',
    version: 13000,
    stream: 1,
    memoryInfo: () => ({ free: 2 ** 36, total: 2 ** 37 }),
    upload(address: number, host: ArrayBufferView) {
      refuseInCapture();
      const bytes = new Uint8Array(host.buffer, host.byteOffset, host.byteLength).slice();
      state.uploads.push({ address, bytes });
    },
    download: refuseInCapture,
    allocateHost: (bytes: number) => ({ address: 4096, bytes: new ArrayBuffer(bytes) }),
    downloadLater: refuseInCapture,
    waitEvent: refuseInCapture,
    copy: () => {
      note('copy');
    },
    fill: () => {
      note('fill');
    },
    synchronize: refuseInCapture,
    encodeTensorMap: () => undefined,
    queue(work: (stream: number) => void) {
      work(1);
    },
    createStream: () => 2,
    createEvent: () => 1,
    recordEvent: refuseInCapture,
    streamWaits: refuseInCapture,
    beginCapture() {
      refuseInCapture();
      captured = [];
    },
    endCapture() {
      const graph = nextGraph++;
      state.graphs.set(graph, captured ?? []);
      captured = null;
      return graph;
    },
    abandonCapture() {
      captured = null;
    },
    launchGraph(graph: number) {
      if (!state.graphs.has(graph)) throw new Error(`no graph ${graph}`);
      state.replays.push(graph);
    },
    destroyGraph(graph: number) {
      if (!state.graphs.delete(graph)) throw new Error(`no graph ${graph}`);
    },
    destroyGraphs() {
      state.graphs.clear();
    },
  } as unknown as Driver;
  const device: Device = {
    driver,
    storage: 'bfloat16',
    compiler: { description: 'none', compile: () => new Uint8Array() },
    allocator: new CachingAllocator(driver),
    matmuls: { hasFloat8: true, run: (problem, pointers) => { note('product', { storage: problem.type, product: { ...problem, ...pointers } }); } } as Pick<CublasMatmul, 'run' | 'hasFloat8'> as CublasMatmul, // prettier-ignore
    smallReads: new SmallReads(driver),
    recording: null,
    launch: ({ name, file, early, storage = 'bfloat16' }, grid, _threads, args) => {
      note(name, { args, grid, storage, ...(early === true && { early: file }) });
    },
    time: (run) => {
      run();
      return 1;
    },
  };
  return { device, ...state, note };
}
