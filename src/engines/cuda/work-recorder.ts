/** Work of fixed shapes, such as a training step, recorded as a CUDA graph: one launch instead of several hundred. */
import { hold, releasedOnError, unhold } from '../../ops/held.js';
import type { RecordedWork, Work } from '../../ops/recording.js';
import * as tf from '../../tf.js';
import type { CachingAllocator } from './allocator.js';
import type { CudaBackend } from './backend.js';
import { captured, CONSTANT_BYTES, Constants } from './capture.js';

class CudaWork implements RecordedWork {
  private isGone = false;
  private readonly keep: () => void;

  constructor(
    private readonly backend: CudaBackend,
    private readonly parts: {
      graph: number;
      pool: CachingAllocator;
      inputs: readonly tf.Tensor[];
      outputs: readonly tf.Tensor[];
      release: () => void;
    },
  ) {
    hold(this);
    // Between runs the memory of a whole step lies idle: others may need it.
    this.keep = backend.device.allocator.onShortage(() => {
      this.dispose();
    });
  }

  get isDisposed(): boolean {
    return this.isGone;
  }

  run(values: readonly (Float32Array | Int32Array)[]): Float32Array[] {
    const { backend, parts } = this;
    const { driver } = backend.device;
    parts.inputs.forEach((input, i) => {
      const given = values[i];
      if (given?.length !== input.size) throw new Error(`input ${i} of recorded work has another size`);
      driver.upload(backend.pointer(input, 'float32'), given);
    });
    driver.launchGraph(parts.graph);
    return parts.outputs.map((output) => {
      const found = new Float32Array(output.size);
      driver.download(found, backend.pointer(output, 'float32'));
      return found;
    });
  }

  within(work: () => void): boolean {
    const { pool } = this.parts;
    const { liveBytes } = pool.memory();
    this.backend.device.allocator.within(pool, work);
    return !this.isGone && pool.memory().liveBytes === liveBytes;
  }

  dispose(): void {
    if (this.isGone) return;
    this.isGone = true;
    unhold(this);
    this.keep();
    const { graph, pool, inputs, outputs, release } = this.parts;
    tf.dispose([...inputs, ...outputs]);
    pool.close();
    release();
    this.backend.device.driver.destroyGraph(graph);
  }
}

/** Records on the backend's stream. @param early as of `CaptureContext` @throws Error where the work reads results or uploads, or changes what it was given */
export function recordWork(
  backend: CudaBackend,
  { inputs: specs, compute }: Work,
  early: boolean,
): RecordedWork {
  const { device } = backend;
  const { allocator, driver } = device;
  const block = allocator.allocate(CONSTANT_BYTES);
  const constants = new Constants(block.pointer);
  const inputs: tf.Tensor[] = [];
  let outputs: readonly tf.Tensor[] = [];
  let graph = 0;
  const context = {
    ...{ position: 0, keys: 0, place: null, early, chain: null },
    isReplaced: () => false,
    constant: (bytes: ArrayBufferView) => constants.add(bytes),
  };
  try {
    for (const { shape, dtype } of specs) {
      const info = backend.output(shape, dtype, 'float32');
      inputs.push(tf.keep(tf.engine().makeTensorFromTensorInfo(info)));
    }
    const pool = allocator.setAside(() => {
      graph = captured(device, context, () => {
        outputs = releasedOnError(() => compute(...inputs).map((tensor) => tf.keep(tensor)));
        // Where they are narrow, their float32 form is part of the work.
        for (const output of outputs) backend.pointer(output, 'float32');
      });
      constants.upload(backend);
    });
    const release = (): void => {
      allocator.release(block);
    };
    return new CudaWork(backend, { graph, pool, inputs, outputs, release });
  } catch (error) {
    tf.dispose([...inputs, ...outputs]);
    if (graph !== 0) driver.destroyGraph(graph);
    allocator.release(block);
    throw error;
  }
}
