/**
 * Recorded steps: what an engine may offer to models that run the same step again and again, as in decoding. The step is
 * computed once while the engine notes what it launches; from then on only that is launched, for another position and
 * other inputs, without the host's work of finding it out again.
 *
 * A step qualifies if nothing in it depends on its inputs but through kernels, and on its position but through `Rotary` and
 * `RotatedRetention` (start), `PageWrite` (position, which starts again at 0 after the end of the page) and `PagedAttention`
 * (length, start of the rotation). Where ranks divide the keys, their number on this rank moves `PagedAttention` (length) and
 * `PageWrite` (position, where its `counter` says so).
 */
import * as tf from '../tf.js';

export interface Step {
  /** Position of the step's first row when it is recorded. */
  readonly position: number;
  /** Keys before it on this rank, where ranks divide them; default: as many as positions. */
  readonly keys?: number;
  /** Of the input that changes from run to run, int32. */
  readonly inputShape: readonly number[];
  /** Computes the step for a stand-in of the input. Nothing is executed. */
  readonly compute: (input: tf.Tensor) => tf.Tensor;
  /** Tensors that the step replaces by others of equal shapes: what it reads before `compute`, what it made after. */
  readonly carried: () => readonly tf.Tensor[];
}

export interface RecordedStep {
  /**
   * Runs the step: changes the tensors that `carried` gave before recording, and returns a new tensor.
   * @param input of the recorded shape
   */
  run(input: tf.Tensor, position: number, keys?: number): tf.Tensor;
  dispose(): void;
}

/**
 * Work that is done again and again for other inputs of the same shapes: a training step. It depends on them only through
 * kernels, and changes tensors in place.
 */
export interface Work {
  /** Of the inputs that change from run to run; floats are kept in float32. */
  readonly inputs: readonly { readonly shape: readonly number[]; readonly dtype: 'float32' | 'int32' }[];
  /** Does the work for stand-ins of the inputs: returns the float32 tensors to read after each run. Nothing is executed. */
  readonly compute: (...inputs: tf.Tensor[]) => readonly tf.Tensor[];
}

export interface RecordedWork {
  /** Whether it was disposed of; the engine does so too, where memory runs out. */
  readonly isDisposed: boolean;
  /**
   * Does the work and waits for it.
   * @param values of the inputs, in order
   * @returns what the tensors that `compute` returned hold now
   */
  run(values: readonly (Float32Array | Int32Array)[]): Float32Array[];
  /**
   * Does other work in the memory of the recording, which lies idle between runs.
   * @returns whether that work has left nothing there; else the recording must not be run any more
   */
  within(work: () => void): boolean;
  dispose(): void;
}

/** What an engine cannot record, and will not be able to: steps like this one are computed. */
export class NotRecordable extends Error {}

export interface StepRecorder {
  /** Whether it records nothing of what ranks that divide sequences say to each other: their steps are then computed. */
  readonly singleRank?: boolean;
  /** Whether the engine queues its work, so that the host goes on while it is done. */
  readonly isQueued?: boolean;
  /**
   * Records a step that was computed before, so that nothing is prepared for the first time; null: not this time, but it may
   * be tried again.
   * @throws NotRecordable where a step is not made of what the engine records, and others where it does not qualify; its carried tensors
   *   are then those it made
   */
  record(step: Step): RecordedStep | null;
  /** Records work that was done before; absent where the engine cannot. @throws Error where it does not qualify */
  recordWork?(work: Work): RecordedWork;
}

const recorders = new Map<string, StepRecorder>();

/** Offers recording on a backend; null takes the offer back. */
export function registerRecorder(backend: string, recorder: StepRecorder | null): void {
  if (recorder === null) recorders.delete(backend);
  else recorders.set(backend, recorder);
}

/** Told why recorded steps are not used although the engine could record. */
let tell: (reason: string) => void = () => undefined;

/** Has refusals of recorded steps reported to `listener`, from here on. */
export function reportRefusals(listener: (reason: string) => void): void {
  tell = listener;
}

/** Reports that a recorder is not used any more; what was to be recorded is computed. */
export function refuseRecorder(reason: string): void {
  tell(reason);
}

/** The recorder of the current backend, if it has one. */
export function stepRecorder(): StepRecorder | undefined {
  return recorders.get(tf.getBackend());
}
