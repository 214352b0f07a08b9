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
  readonly batch: number;
  readonly memory: readonly object[];
  readonly weights: readonly object[];
}

/**
 * The decoding steps of one cache. The first is computed, which also prepares what only happens once; the second is recorded
 * if the first changed no shape, and it and those that follow are run from the recording, until a page is full, the
 * cache is forked, or anything else than a decoding step changes it.
 */
export class StepReplay {
  private recording: Recording | null = null;
  /** Shapes after the last computed step, if it left them as they were. */
  private steady: string | null = null;

  constructor(private readonly cache: LayerCache) {}

  step(tokens: tf.Tensor1D, weights: Iterable<tf.Tensor>, compute: StepFunction): tf.Tensor2D {
    const recorder = stepRecorder();
    if (recorder === undefined || refusing.has(recorder)) return compute(tokens);
    const list = Array.from(weights, (weight) => weight.dataId);
    if (this.recording !== null && !this.applies(this.recording, tokens, list)) this.dispose();
    if (this.recording === null && this.isReady()) this.record(recorder, tokens, list, compute);
    if (this.recording === null) return this.compute(tokens, compute);
    const next = this.cache.length + 1;
    const logits = this.recording.step.run(tokens, this.cache.length) as tf.Tensor2D;
    this.setLength(next);
    return logits;
  }

  dispose(): void {
    this.recording?.step.dispose();
    this.recording = null;
  }

  private compute(tokens: tf.Tensor1D, compute: StepFunction): tf.Tensor2D {
    const before = this.shapes();
    const logits = compute(tokens);
    const after = this.shapes();
    this.steady = before === after ? after : null;
    return logits;
  }

  private record(
    recorder: StepRecorder,
    tokens: tf.Tensor1D,
    weights: readonly object[],
    compute: StepFunction,
  ): void {
    const { length } = this.cache;
    // The recorded step makes new states that are never computed: the present ones come back.
    const states = this.states();
    const kept = states.map((state) => state.get().map((tensor) => tf.keep(tf.clone(tensor))));
    const carried = (): tf.Tensor[] => states.flatMap((state) => state.get());
    let step: RecordedStep | null = null;
    try {
      step = recorder.record({
        position: length,
        inputShape: tokens.shape,
        compute: (input) => compute(input as tf.Tensor1D),
        carried,
      });
    } catch (error) {
      refusing.add(recorder);
      const reason = error instanceof Error ? error.message : String(error);
      process.stderr.write(`decoding goes on without a recorded step: ${reason}\n`);
    }
    states.forEach((state, i) => {
      state.replace(kept[i] ?? []);
    });
    this.setLength(length);
    if (step === null) return;
    this.recording = { step, batch: tokens.shape[0], memory: this.memory(), weights };
  }

  private applies(recording: Recording, tokens: tf.Tensor1D, weights: readonly object[]): boolean {
    return (
      recording.batch === tokens.shape[0] &&
      this.isWritable() &&
      same(recording.memory, this.memory()) &&
      same(recording.weights, weights)
    );
  }

  private isReady(): boolean {
    return this.steady !== null && this.isWritable() && this.steady === this.shapes();
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
    return this.cache.memories.flatMap((memory): tf.Tensor[] =>
      memory instanceof KeyValuePages
        ? memory.pages.slice(-1).flatMap(({ key, value }) => [key, value])
        : [...memory.get()],
    );
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

function same(a: readonly object[], b: readonly object[]): boolean {
  return a.length === b.length && a.every((entry, i) => entry === b[i]);
}
