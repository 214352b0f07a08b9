/** Decoding by a recorded step, where the engine can record; by computing it anew where it cannot. */
import { KeyValuePages, stepRecorder, type RecordedStep, type StepRecorder } from '../ops/index.js';
import * as tf from '../tf.js';
import type { LayerCache, LayerState } from './cache.js';

export type StepFunction = (tokens: tf.Tensor1D) => tf.Tensor2D;

/** Recorders that have failed once: they are not asked again, and said so once. */
const refusing = new WeakSet<StepRecorder>();

/** A recording, and what must still be as it was for it to be right. */
interface Recording {
  readonly step: RecordedStep;
  readonly memory: readonly object[];
  readonly weights: readonly object[];
}

/**
 * The decoding steps of one cache. The first is computed, which also prepares what only happens once; the second is recorded
 * if the first changed no shape, and it and those that follow are run from the recording, until a page is full, the
 * cache is forked, or anything else than a decoding step changes it. The first run of a recording is computed as well,
 * from the same state: unless both agree to the last bit, nothing is recorded any more.
 */
export class StepReplay {
  private recording: Recording | null = null;
  /** Shapes after the last computed step, if it left them as they were, and its weights. */
  private steady: { shapes: string; weights: readonly object[] } | null = null;

  constructor(private readonly cache: LayerCache) {}

  // The device waits while this finds the recording: no step that runs from one may cost the host much.
  step(tokens: tf.Tensor1D, weights: readonly tf.Tensor[], compute: StepFunction): tf.Tensor2D {
    const recorder = stepRecorder();
    const fits = tokens.dtype === 'int32' && tokens.shape[0] === this.cache.batch;
    if (recorder === undefined || refusing.has(recorder) || !fits) return compute(tokens);
    if (this.recording !== null && this.applies(this.recording, weights))
      return this.run(this.recording, tokens);
    this.dispose();
    if (!this.isReady(weights)) return this.compute(tokens, weights, compute);
    const recording = this.record(recorder, tokens, weights, compute);
    if (recording === null) return this.compute(tokens, weights, compute);
    this.recording = recording;
    return this.runChecked(recorder, recording, tokens, compute);
  }

  dispose(): void {
    this.recording?.step.dispose();
    this.recording = null;
  }

  private run({ step }: Recording, tokens: tf.Tensor1D): tf.Tensor2D {
    const { length } = this.cache;
    const logits = step.run(tokens, length) as tf.Tensor2D;
    this.setLength(length + 1);
    return logits;
  }

  private compute(tokens: tf.Tensor1D, weights: readonly tf.Tensor[], compute: StepFunction): tf.Tensor2D {
    const before = this.shapes();
    const logits = compute(tokens);
    const shapes = this.shapes();
    this.steady = before === shapes ? { shapes, weights: dataOf(weights) } : null;
    return logits;
  }

  private record(
    recorder: StepRecorder,
    tokens: tf.Tensor1D,
    weights: readonly tf.Tensor[],
    compute: StepFunction,
  ): Recording | null {
    const { length } = this.cache;
    // The recorded step makes new states that are never computed: the present ones come back.
    const states = this.states();
    const kept = cloned(states);
    const carried = (): tf.Tensor[] => states.flatMap((state) => state.get());
    let step: RecordedStep | null = null;
    try {
      // One position back, which is in the same page: then the first run shows whether positions move.
      this.setLength(length - 1);
      step = recorder.record({
        position: length - 1,
        inputShape: tokens.shape,
        compute: (input) => compute(input as tf.Tensor1D),
        carried,
      });
    } catch (error) {
      refuse(recorder, error);
    }
    restore(states, kept);
    this.setLength(length);
    return step === null ? null : { step, memory: dataOf(this.memory()), weights: dataOf(weights) };
  }

  /**
   * Runs the recording from the state itself and computes the step from a copy; what the step writes into pages is written
   * twice, by the computed step last.
   */
  private runChecked(
    recorder: StepRecorder,
    recording: Recording,
    tokens: tf.Tensor1D,
    compute: StepFunction,
  ): tf.Tensor2D {
    const { length } = this.cache;
    const states = this.states();
    const copies = states.map((state) =>
      state.get().map((tensor) => tf.keep(tf.mul<tf.Tensor4D>(tensor, 1))),
    );
    let found: tf.Tensor2D;
    try {
      found = this.run(recording, tokens);
    } catch (error) {
      tf.dispose(copies.flat());
      this.dispose();
      refuse(recorder, error);
      return compute(tokens);
    }
    const replayed = cloned(states);
    restore(states, copies);
    this.setLength(length);
    const expected = compute(tokens);
    const isSame =
      areEqual(found, expected) &&
      states.every((state, i) => state.get().every((tensor, j) => areEqual(replayed[i]?.[j], tensor)));
    if (isSame) {
      restore(states, replayed);
      expected.dispose();
      return found;
    }
    tf.dispose([found, ...replayed.flat()]);
    this.dispose();
    refuse(recorder, new Error('the recorded step and the computed one differ'));
    return expected;
  }

  private applies(recording: Recording, weights: readonly tf.Tensor[]): boolean {
    return this.isWritable() && have(this.memory(), recording.memory) && have(weights, recording.weights);
  }

  private isReady(weights: readonly tf.Tensor[]): boolean {
    const { steady } = this;
    return (
      steady !== null && this.isWritable() && steady.shapes === this.shapes() && have(weights, steady.weights)
    );
  }

  /** Whether the step may change everything the cache holds in place. */
  private isWritable(): boolean {
    return this.cache.memories.every((memory) =>
      memory instanceof KeyValuePages ? memory.hasRoom : memory.isOwn,
    );
  }

  private states(): LayerState[] {
    return this.cache.memories.filter((memory): memory is LayerState => !(memory instanceof KeyValuePages));
  }

  /** The tensors that the step changes. */
  private memory(): tf.Tensor[] {
    const tensors: tf.Tensor[] = [];
    for (const memory of this.cache.memories) {
      if (memory instanceof KeyValuePages) {
        const last = memory.pages.at(-1);
        if (last !== undefined) tensors.push(last.key, last.value);
      } else tensors.push(...memory.get());
    }
    return tensors;
  }

  private shapes(): string {
    return this.cache.memories
      .map((memory) =>
        memory instanceof KeyValuePages
          ? memory.pages.length
          : memory
              .get()
              .map((tensor) => tensor.shape.join())
              .join(' '),
      )
      .join(';');
  }

  private setLength(length: number): void {
    this.cache.length = length;
    for (const memory of this.cache.memories) if (memory instanceof KeyValuePages) memory.resume(length);
  }
}

/** Says once that decoding goes on without this recorder. */
function refuse(recorder: StepRecorder, error: unknown): void {
  refusing.add(recorder);
  const reason = error instanceof Error ? error.message : String(error);
  process.stderr.write(`decoding goes on without a recorded step: ${reason}\n`);
}

/** The states' tensors, kept whatever becomes of the states. */
function cloned(states: readonly LayerState[]): tf.Tensor4D[][] {
  return states.map((state) => state.get().map((tensor) => tf.keep(tf.clone(tensor))));
}

/** Hands tensors over to the states. */
function restore(states: readonly LayerState[], tensors: readonly (readonly tf.Tensor4D[])[]): void {
  states.forEach((state, i) => {
    state.replace(tensors[i] ?? []);
  });
}

/** Whether all elements are equal numbers. */
function areEqual(a: tf.Tensor | undefined, b: tf.Tensor): boolean {
  if (a === undefined) return false;
  // No difference of two numbers is so small that it is rounded to 0, and a NaN stays.
  return tf.tidy(() => tf.sum(tf.abs(tf.sub(a, b))).dataSync()[0] ?? 0) === 0;
}

function dataOf(tensors: readonly tf.Tensor[]): object[] {
  return tensors.map((tensor) => tensor.dataId);
}

/** Whether these are the data of the tensors. */
function have(tensors: readonly tf.Tensor[], data: readonly object[]): boolean {
  return tensors.length === data.length && data.every((entry, i) => tensors[i]?.dataId === entry);
}
