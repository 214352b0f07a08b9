/** The parameters of a model as tfjs variables. */
import { Random } from '../random.js';
import { RunError } from '../errors.js';
import { type ComputeType, float32Tensor, keepInFloat8 } from '../ops/index.js';
import * as tf from '../tf.js';
import type { ModelConfig } from './config.js';
import type { InitialValues } from './initial-values.js';
import { elements, parameterSpecs, type ParameterSpec, requireFloat8 } from './parameters.js';

/**
 * What the weights are: `random` draws of the recipe of `initial-values.ts`; `repeated`, which has its distribution but
 * repeats a million draws, for timing large models whose outputs do not matter; `zeros`, for weights that are loaded
 * afterwards.
 */
export type InitialWeights = 'random' | 'repeated' | 'zeros';

/** Draws of `repeated` weights: coprime to the usual widths, so that rows differ. */
const REPEATED_DRAWS = 1_000_003;

export interface WeightOptions {
  readonly seed: number | string;
  readonly weights: InitialWeights;
  readonly initialValues: InitialValues;
  /** In what products with them are computed. */
  readonly compute: ComputeType | null;
}

export class Weights {
  readonly variables: ReadonlyMap<string, tf.Variable>;
  /** The same, in order. */
  readonly list: readonly tf.Variable[];
  /** Those that are kept in float8. */
  private readonly rounded = new Set<tf.Variable>();

  constructor(config: ModelConfig, { seed, weights, initialValues, compute }: WeightOptions) {
    const values = valueSource(seed, weights);
    const variables = new Map<string, tf.Variable>();
    const specs = parameterSpecs(config, initialValues);
    if (compute !== null) requireFloat8(specs);
    for (const spec of specs) {
      const tensor = tf.tidy(() => repeated(values(spec), spec.shape));
      const variable = tf.variable(tensor);
      variables.set(spec.name, variable);
      tensor.dispose();
      if (compute === null || !spec.suitsFloat8) continue;
      this.rounded.add(variable);
      // One after the other, so that they are not all there unrounded.
      keepInFloat8(variable);
    }
    this.variables = variables;
    this.list = [...variables.values()];
  }

  /**
   * The parameter `NAME.weight`, or NAME where it is called by that alone.
   * @throws RunError where the model has neither
   */
  of(name: string): tf.Variable {
    return this.variables.get(name) ?? this.get(`${name}.weight`);
  }

  /** @throws RunError where the model has no such parameter */
  get(name: string): tf.Variable {
    const variable = this.variables.get(name);
    if (!variable) throw new RunError(`the model has no parameter '${name}'`);
    return variable;
  }

  load(name: string, values: Float32Array, keepsFloat32: boolean): void {
    const variable = this.get(name);
    if (values.length !== variable.size) {
      throw new RunError(
        `parameter '${name}' has shape [${variable.shape.join(', ')}], ${variable.size} values, but ${values.length} were given`,
      );
    }
    tf.tidy(() => {
      // A copy: backends keep the array they are given, and training updates parameters in place.
      const exact = keepsFloat32
        ? float32Tensor(values, variable.shape)
        : tf.tensor(values.slice(), variable.shape);
      variable.assign(exact);
    });
    if (this.rounded.has(variable)) keepInFloat8(variable);
  }

  dispose(): void {
    for (const variable of this.list) variable.dispose();
  }
}

/**
 * Values of a parameter, or its first ones, to be repeated; those of equal seed and name are equal, whatever else the
 * model has.
 */
function valueSource(seed: number | string, initial: InitialWeights): (spec: ParameterSpec) => Float32Array {
  if (initial === 'zeros') return ({ shape }) => new Float32Array(elements(shape));
  const source = new Random(seed);
  const most = initial === 'repeated' ? REPEATED_DRAWS : Infinity;
  return (spec) => draw(spec, source.fork(spec.name), Math.min(elements(spec.shape), most));
}

/** A tensor of the values over and over, repeated by the engine: a large one need not be sent to it. */
function repeated(values: Float32Array, shape: readonly number[]): tf.Tensor {
  const count = elements(shape);
  if (values.length === count) return tf.tensor(values, [...shape]);
  const tiled = tf.tile(tf.tensor1d(values), [Math.ceil(count / values.length)]);
  return tf.reshape(tf.slice(tiled, 0, count), [...shape]);
}

function draw({ initialiser }: ParameterSpec, random: Random, count: number): Float32Array {
  const values = new Float32Array(count);
  switch (initialiser.kind) {
    case 'ones':
      return values.fill(1);
    case 'normal':
      return random.fillNormal(values, 0, initialiser.deviation);
    case 'uniform':
      return random.fillUniform(values, -initialiser.bound, initialiser.bound);
    case 'log-uniform':
      return random.fillUniform(values, initialiser.from, initialiser.to).map(Math.log);
    case 'inverse-softplus': {
      const [least, most] = [Math.log(initialiser.from), Math.log(initialiser.to)];
      return random
        .fillUniform(values, least, most)
        .map((logarithm) => Math.log(Math.expm1(Math.exp(logarithm))));
    }
  }
}
