import * as tf from '../tf.js';
import type { LanguageModel } from './language-model.js';

/** Told of a gradient, by official parameter name, as soon as it is known; the tensor is its own from there on. */
export type GradientSink = (name: string, gradient: tf.Tensor) => void;

export interface ValueAndGradients {
  readonly value: tf.Scalar;
  /** By official parameter name, in the order of `model.parameters`. */
  readonly gradients: ReadonlyMap<string, tf.Tensor>;
}

/**
 * A scalar computed from a model, and its gradient with respect to every parameter. The caller disposes both.
 * @param take gets each gradient while the backward pass goes on; the result then has none
 */
export function valueAndGradients(
  model: LanguageModel,
  compute: () => tf.Scalar,
  take?: GradientSink,
): ValueAndGradients {
  const names = [...model.parameters.keys()];
  const variables = [...model.parameters.values()];
  const announced = (): tf.Scalar => {
    const y = compute();
    if (take) new Announcements(model.parameters, take).listen(tf.engine().state.activeTape, y);
    return y;
  };
  const { value, grads } = tf.engine().gradients(announced, variables);
  if (take === undefined)
    return { value, gradients: new Map(names.map((name, i) => [name, grads[i] as tf.Tensor])) };
  tf.dispose(grads);
  return { value, gradients: new Map() };
}

/** A step that tfjs has recorded. */
type TapeNode = ReturnType<typeof tf.engine>['state']['activeTape'][number];

/** Adds up the gradients of every parameter as tfjs does, and announces them when the last step that reads it is done. */
class Announcements {
  private readonly names = new Map<number, string>();
  /** Steps that read a parameter, and whose gradient is not known yet. */
  private readonly open = new Map<string, number>();
  private readonly sums = new Map<string, tf.Tensor>();

  constructor(
    parameters: ReadonlyMap<string, tf.Variable>,
    private readonly take: GradientSink,
  ) {
    for (const [name, { id }] of parameters) this.names.set(id, name);
  }

  /** @param y what is differentiated: steps that do not lead to it have no gradients */
  listen(tape: readonly TapeNode[], y: tf.Tensor): void {
    const leading = new Set([y.id]);
    for (const node of tape.toReversed()) {
      if (!node.outputs.some(({ id }) => leading.has(id))) continue;
      const inputs = Object.entries(node.inputs);
      for (const [, { id }] of inputs) leading.add(id);
      const read = inputs.flatMap(([input, { id }]) => {
        const name = this.names.get(id);
        return name === undefined ? [] : ([[input, name]] as const);
      });
      for (const [, name] of read) this.open.set(name, (this.open.get(name) ?? 0) + 1);
      if (read.length > 0) this.watch(node, new Map(read));
    }
  }

  /** @param read names of parameters by the inputs that they are */
  private watch(node: TapeNode, read: ReadonlyMap<string, string>): void {
    const { gradient } = node;
    if (gradient === undefined) return;
    node.gradient = (dys) => {
      const gradients = { ...gradient(dys) };
      for (const [input, name] of read) {
        const compute = gradients[input];
        if (compute !== undefined) gradients[input] = () => this.heard(name, compute());
      }
      return gradients;
    };
  }

  private heard(name: string, part: tf.Tensor): tf.Tensor {
    const before = this.sums.get(name);
    const sum = tf.keep(before === undefined ? tf.clone(part) : tf.add(before, part));
    before?.dispose();
    const left = (this.open.get(name) ?? 0) - 1;
    this.open.set(name, left);
    if (left > 0) this.sums.set(name, sum);
    else {
      this.sums.delete(name);
      this.take(name, sum);
    }
    return part;
  }
}
