/** Steps recorded as CUDA graphs: some three hundred launches become one. */
import { hold, unhold } from '../../ops/held.js';
import type { RecordedStep, Step, StepRecorder } from '../../ops/recording.js';
import { OutOfMemoryError, RunError } from '../../errors.js';
import * as tf from '../../tf.js';
import type { CachingAllocator } from './allocator.js';
import type { CudaBackend } from './backend.js';
import { captured, CONSTANT_BYTES, Constants } from './capture.js';
import { canChain, GemvChain } from './gemv-chain.js';
import { isHopperOrNewer } from './driver.js';
import { recordWork } from './work-recorder.js';

/** The position of a step, the keys before it, 4 bytes on, and the counter of its chains, 8 bytes on. */
const WORDS_BYTES = 16;

class CudaStep implements RecordedStep {
  /** Position and keys. */
  private readonly place = new Int32Array(2);
  private isDisposed = false;

  constructor(
    private readonly backend: CudaBackend,
    private readonly parts: {
      graph: number;
      pool: CachingAllocator;
      input: tf.Tensor;
      output: tf.Tensor;
      place: number;
      release: () => void;
    },
  ) {
    hold(this);
  }

  run(input: tf.Tensor, position: number, keys = position): tf.Tensor {
    const { backend, parts } = this;
    const { driver } = backend.device;
    this.place.set([position, keys]);
    // The graph writes to the same address every time; its caller may keep the result. Without room for it nothing must have run.
    const { shape, dtype } = parts.output;
    const result = tf
      .engine()
      .makeTensorFromTensorInfo(backend.output(shape, dtype, backend.storageFor(parts.output)));
    try {
      driver.upload(parts.place, this.place);
      backend.overwrite(parts.input, input);
      driver.launchGraph(parts.graph);
      backend.overwrite(result, parts.output);
    } catch (error) {
      result.dispose();
      throw error;
    }
    return result;
  }

  dispose(): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    unhold(this);
    const { graph, pool, input, output, release } = this.parts;
    tf.dispose([input, output]);
    pool.close();
    release();
    this.backend.device.driver.destroyGraph(graph);
  }
}

/**
 * Records on the backend's stream; see `CaptureContext` for what kernels do differently meanwhile.
 * @param early whether kernels may start before those ahead of them have ended, on GPUs that can make them wait: some 2 %
 *   faster where a step is short; given up where the driver refuses
 * @param chained whether products with few rows that follow each other become one launch, on GPUs with room for it
 */
export function cudaRecorder(backend: CudaBackend, { early = true, chained = true } = {}): StepRecorder {
  const { driver } = backend.device;
  // Where `griddepcontrol` is missing, a kernel that is launched early would not wait.
  let isEarly = early && isHopperOrNewer(driver.architecture);
  const isChained = chained && canChain(driver);
  /** What `attempt` records; null where the driver refused early launches, which are not tried again. */
  const tried = <T>(attempt: (early: boolean) => T): T | null => {
    try {
      return attempt(isEarly);
    } catch (error) {
      if (!isEarly || !(error instanceof RunError) || error instanceof OutOfMemoryError) throw error;
      isEarly = false;
      process.stderr.write(`steps are recorded without overlap of kernels: ${error.message}\n`);
      return null;
    }
  };
  return {
    isQueued: true,
    record: (step) => tried((early) => record(backend, step, early, isChained)),
    recordWork: (work) =>
      tried((early) => recordWork(backend, work, early)) ?? recordWork(backend, work, false),
  };
}

function record(backend: CudaBackend, step: Step, early: boolean, chained: boolean): RecordedStep {
  const { position, keys = position, inputShape, compute, carried } = step;
  const { device } = backend;
  const { allocator, driver } = device;
  const block = allocator.allocate(CONSTANT_BYTES + WORDS_BYTES);
  const place = block.pointer + CONSTANT_BYTES;
  const constants = new Constants(block.pointer);
  const before = carried().map((tensor) => tf.keep(tf.clone(tensor)));
  let input: tf.Tensor | undefined;
  let output: tf.Tensor | undefined;
  let graph = 0;
  const replaced = new Set<object>(before.map(({ dataId }) => dataId));
  const isReplaced = ({ dataId }: tf.TensorInfo): boolean => replaced.has(dataId);
  const capture = (input: tf.Tensor, chain: GemvChain | null): void => {
    const constant = (bytes: ArrayBufferView): number => constants.add(bytes);
    const context = { position, keys, place, early, isReplaced, constant, chain };
    graph = captured(device, context, () => {
      output = tf.keep(compute(input));
      carryOver(backend, before, carried());
    });
  };
  try {
    driver.upload(place, new BigInt64Array(WORDS_BYTES / 8));
    const chain = chained ? new GemvChain(device, place + 8) : null;
    const made = tf.keep(tf.engine().makeTensorFromTensorInfo(backend.output(inputShape, 'int32')));
    input = made;
    const pool = allocator.setAside(() => {
      capture(made, chain);
      constants.upload(backend);
    });
    const release = (): void => {
      allocator.release(block);
    };
    return new CudaStep(backend, {
      graph,
      pool,
      input: made,
      output: output as unknown as tf.Tensor,
      place,
      release,
    });
  } catch (error) {
    tf.dispose([input, output].filter((tensor) => tensor !== undefined));
    if (graph !== 0) driver.destroyGraph(graph);
    allocator.release(block);
    throw error;
  } finally {
    tf.dispose(before);
  }
}

/** What the step made becomes what its next run reads. */
function carryOver(backend: CudaBackend, before: readonly tf.Tensor[], after: readonly tf.Tensor[]): void {
  if (before.length !== after.length) throw new Error('the step keeps another number of tensors than before');
  after.forEach((tensor, i) => {
    const target = before[i] as tf.Tensor;
    if (tensor.shape.join() !== target.shape.join()) {
      throw new Error(
        `the step turns a tensor of [${target.shape.join(', ')}] into [${tensor.shape.join(', ')}]`,
      );
    }
    if (tensor.dataId !== target.dataId) backend.overwrite(target, tensor);
  });
}
