/** Decoding by a recorded step, where the engine can record; by computing it anew where it cannot. */
import type { Communicator } from '../../distributed/communicator.js';
import { isMemoryError } from '../../errors.js';
import {
  NotRecordable,
  refuseRecorder,
  stepRecorder,
  type RecordedStep,
  type StepRecorder,
} from '../../ops/index.js';
import * as tf from '../../tf.js';
import type { Memory } from './memory.js';

export type StepFunction = (tokens: tf.Tensor1D) => tf.Tensor2D;

/** The cache whose steps these are. */
interface Replayed {
  readonly batch: number;
  readonly memories: readonly Memory[];
  length: number;
}

/** Recorders that have failed once: they are not asked again. */
const refusing = new WeakSet<StepRecorder>();

/** A recording, and what must still be as it was for it to be right. */
interface Recording {
  readonly step: RecordedStep;
  readonly memory: readonly object[];
  readonly weights: readonly object[];
  readonly era: number | undefined;
}

/** Why there is no recording: it may be tried again. */
const LATER = '';
/** Or it may by other caches: this one's needs more memory than there is. */
const TOO_LARGE = 'not enough memory for a recorded step';

/**
 * The decoding steps of one cache. The first is computed, which also prepares what only happens once; the second is recorded
 * if the first changed no shape, and it and those that follow are run from the recording, until a page is full, the
 * cache is forked, or anything else than a decoding step changes it. The first run of a recording is computed as well,
 * from the same state: unless both agree to the last bit, nothing is recorded any more. Ranks that divide sequences record
 * and run recordings together or not at all: what they say to each other is part of them.
 */
export class StepReplay {
  private recording: Recording | null = null;
  /** Whether this cache's steps are computed: the engine does not record such steps, or there was no memory for it. */
  private isComputed = false;
  /** Shapes after the last computed step, if it left them as they were, and its weights. */
  private steady: { shapes: string; weights: readonly object[] } | null = null;

  constructor(
    private readonly cache: Replayed,
    private readonly ranks: Communicator,
  ) {}

  // The device waits while this finds the recording: no step that runs from one may cost the host much.
  step(tokens: tf.Tensor1D, weights: readonly tf.Tensor[], compute: StepFunction): tf.Tensor2D {
    const recorder = stepRecorder();
    const fits = tokens.dtype === 'int32' && tokens.shape[0] === this.cache.batch;
    if (recorder === undefined || !this.mayUse(recorder) || !fits) return compute(tokens);
    if (this.recording !== null && this.applies(this.recording, weights))
      return this.run(this.recording, tokens);
    this.dispose();
    if (!this.isReady(weights)) return this.compute(tokens, weights, compute);
    const recording = this.record(recorder, tokens, weights, compute);
    if (recording === null) return this.compute(tokens, weights, compute);
    this.recording = recording;
    return this.runChecked(recorder, recording, tokens, compute);
  }

  private mayUse(recorder: StepRecorder): boolean {
    const isDivided = this.ranks.size > 1;
    return !this.isComputed && !refusing.has(recorder) && !(isDivided && recorder.singleRank === true);
  }

  dispose(): void {
    this.recording?.step.dispose();
    this.recording = null;
  }

  private run({ step }: Recording, tokens: tf.Tensor1D): tf.Tensor2D {
    const { length } = this.cache;
    const logits = step.run(tokens, length, this.keys()) as tf.Tensor2D;
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
    const { memories } = this.cache;
    const kept = cloned(memories);
    const carried = (): tf.Tensor[] => memories.flatMap((memory) => memory.carried());
    let step: RecordedStep | null = null;
    let problem: string | null = null;
    try {
      // One position back, which is in the same page: then the first run shows whether positions move.
      this.setLength(length - 1);
      step = recorder.record({
        position: length - 1,
        keys: this.keys(),
        inputShape: tokens.shape,
        compute: (input) => compute(input as tf.Tensor1D),
        carried,
      });
      if (step === null) problem = LATER;
    } catch (error) {
      this.isComputed = error instanceof NotRecordable && this.ranks.size === 1;
      problem = this.isComputed ? LATER : problemOf(error);
    }
    restore(memories, kept);
    this.setLength(length);
    problem = this.problemOfAny(problem);
    if (step !== null && problem === null) {
      return { step, memory: dataOf(this.written()), weights: dataOf(weights), era: this.era() };
    }
    step?.dispose();
    if (problem !== LATER) this.refuse(recorder, problem ?? '');
    return null;
  }

  /** Computes from now on; other caches too, unless it was for want of memory. Says so. */
  private refuse(recorder: StepRecorder, problem: string): void {
    if (refusing.has(recorder)) return;
    if (problem === TOO_LARGE) this.isComputed = true;
    else refusing.add(recorder);
    refuseRecorder(problem);
  }

  /** What keeps a rank from recording, if anything does. Every rank calls it. */
  private problemOfAny(problem: string | null): string | null {
    const { ranks } = this;
    if (ranks.size === 1) return problem;
    const found = (ranks.gather(problem) as (string | null)[]).map((text, rank) =>
      text === null || text === LATER || text === TOO_LARGE || rank === ranks.rank
        ? text
        : `on rank ${rank}: ${text}`,
    );
    const refusal = found.find((text) => text !== null && text !== LATER);
    return refusal ?? (found.includes(LATER) ? LATER : null);
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
    const { memories } = this.cache;
    const copies = memories.map((): tf.Tensor4D[] => []);
    let found: tf.Tensor2D;
    try {
      for (const [i, memory] of memories.entries()) {
        for (const tensor of memory.carried()) copies[i]?.push(tf.keep(tf.mul<tf.Tensor4D>(tensor, 1)));
      }
      found = this.run(recording, tokens);
    } catch (error) {
      // Other ranks wait in theirs.
      if (this.ranks.size > 1) throw error;
      tf.dispose(copies.flat());
      this.dispose();
      this.refuse(recorder, problemOf(error));
      return compute(tokens);
    }
    const replayed = cloned(memories);
    restore(memories, copies);
    this.setLength(length);
    const expected = compute(tokens);
    const isSame =
      areEqual(found, expected) &&
      memories.every((memory, i) =>
        memory.carried().every((tensor, j) => areEqual(replayed[i]?.[j], tensor)),
      );
    const problem = this.problemOfAny(isSame ? null : 'the recorded step and the computed one differ');
    if (problem === null) {
      restore(memories, replayed);
      expected.dispose();
      return found;
    }
    tf.dispose([found, ...replayed.flat()]);
    this.dispose();
    this.refuse(recorder, problem);
    return expected;
  }

  private applies(recording: Recording, weights: readonly tf.Tensor[]): boolean {
    return (
      this.isWritable() &&
      this.era() === recording.era &&
      have(this.written(), recording.memory) &&
      have(weights, recording.weights)
    );
  }

  private isReady(weights: readonly tf.Tensor[]): boolean {
    const { steady } = this;
    return (
      steady !== null && this.isWritable() && steady.shapes === this.shapes() && have(weights, steady.weights)
    );
  }

  /** Whether the step may change everything the cache holds in place. */
  private isWritable(): boolean {
    return this.cache.memories.every((memory) => memory.isWritable);
  }

  /** Keys before the step on this rank; all memories that divide them have as many. */
  private keys(): number {
    return this.divided()?.division?.keys ?? this.cache.length;
  }

  private era(): number | undefined {
    return this.divided()?.division?.era;
  }

  private divided(): Memory | undefined {
    return this.ranks.size === 1
      ? undefined
      : this.cache.memories.find(({ division }) => division !== undefined);
  }

  private written(): tf.Tensor[] {
    return this.cache.memories.flatMap((memory) => memory.written());
  }

  private shapes(): string {
    return this.cache.memories.map((memory) => memory.shape()).join(';');
  }

  private setLength(length: number): void {
    this.cache.length = length;
    for (const memory of this.cache.memories) memory.resume(length);
  }
}

function problemOf(error: unknown): string {
  if (isMemoryError(error)) return TOO_LARGE;
  return error instanceof Error ? error.message : String(error);
}

/** The tensors that a step replaces, kept whatever becomes of their memories. */
function cloned(memories: readonly Memory[]): tf.Tensor4D[][] {
  return memories.map((memory) => memory.carried().map((tensor) => tf.keep(tf.clone(tensor))));
}

/** Hands tensors over to their memories. */
function restore(memories: readonly Memory[], tensors: readonly (readonly tf.Tensor4D[])[]): void {
  memories.forEach((memory, i) => {
    memory.restore(tensors[i] ?? []);
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
