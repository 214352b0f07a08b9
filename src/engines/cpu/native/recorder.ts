/** Decoding steps recorded as a list of calls: nothing of TensorFlow.js is left in them. */
import { NotRecordable, type RecordedStep, type Step, type StepRecorder } from '../../../ops/recording.js';
import * as tf from '../../../tf.js';
import type { CpuBackend, Floats, StepProgram } from '../backend.js';

class CpuStep implements RecordedStep {
  constructor(
    private readonly backend: CpuBackend,
    private readonly parts: {
      readonly program: StepProgram;
      readonly position: number;
      readonly input: tf.Tensor;
      readonly output: tf.Tensor;
      /** What the step made, and where its next run reads it. */
      readonly carried: readonly (readonly [from: Floats, to: Floats])[];
    },
  ) {}

  run(input: tf.Tensor, position: number): tf.Tensor {
    const { backend, parts } = this;
    backend.integers(parts.input).set(backend.integers(input));
    for (const call of parts.program.calls) call(position - parts.position);
    for (const [from, to] of parts.carried) to.set(from);
    // The program writes to the same place every time; its caller may keep the result.
    const result = backend.output(parts.output.shape);
    backend.floats(result).set(backend.floats(parts.output));
    return tf.engine().makeTensorFromTensorInfo(result);
  }

  dispose(): void {
    tf.dispose([this.parts.input, this.parts.output]);
    this.backend.releaseProgram(this.parts.program);
  }
}

/** Steps of kernels that `CpuBackend.launch` records, which calls of MPI are not; @throws NotRecordable for others */
export function cpuRecorder(backend: CpuBackend): StepRecorder {
  return { singleRank: true, record: (step) => record(backend, step) };
}

function record(backend: CpuBackend, { position, inputShape, compute, carried }: Step): RecordedStep {
  const input = tf.keep(tf.zeros([...inputShape], 'int32'));
  const before = carried().map((tensor) => tf.keep(tf.clone(tensor)));
  let output: tf.Tensor | undefined;
  let program: StepProgram | undefined;
  try {
    program = backend.recordProgram(() => {
      output = tf.keep(compute(input));
    });
    const after = carried();
    if (after.some(({ shape }, i) => shape.join() !== before[i]?.shape.join()))
      throw new NotRecordable('the step changes the shapes of what it keeps');
    const pairs = after
      .map((tensor, i) => [tensor, before[i] as tf.Tensor] as const)
      .filter(([made, old]) => made.dataId !== old.dataId)
      .map(([made, old]) => [backend.floats(made), backend.floats(old)] as const);
    const parts = { program, position, input, output: output as unknown as tf.Tensor, carried: pairs };
    return new CpuStep(backend, parts);
  } catch (error) {
    tf.dispose([input, ...(output === undefined ? [] : [output])]);
    if (program) backend.releaseProgram(program);
    throw error;
  } finally {
    tf.dispose(before);
  }
}
