/**
 * How parameters start. A recipe is a function from what a parameter is to its distribution; parts of a model say what
 * their parameters are and how the official code starts them.
 *
 * The official initialisation (YOCO/yoco/models/decoder/model_parallel_init.py): retention projections xavier-uniform with
 * gain 2^-2.5, its output projection with gain 2^-1, every other matrix uniform in ±1/sqrt(fan in) (PyTorch's
 * kaiming-uniform with a = sqrt 5), embeddings normal with deviation dim^-0.5, norms 1.
 */
export type Initialiser =
  | { readonly kind: 'ones' }
  | { readonly kind: 'normal'; readonly deviation: number }
  | { readonly kind: 'uniform'; readonly bound: number }
  /** The logarithm of a uniform value. */
  | { readonly kind: 'log-uniform'; readonly from: number; readonly to: number }
  /** What softplus takes to a value whose logarithm is uniform. */
  | { readonly kind: 'inverse-softplus'; readonly from: number; readonly to: number };

/**
 * `input` matrices read the normed residual stream, `output` matrices write to it; both are read by `linear`, `linearGroup` and
 * `linearSwiglu` only, since at inference they may be kept in float8. `head` gives the logits. `other` starts as its part says
 * whatever the recipe.
 */
export type ParameterRole = 'embedding' | 'head' | 'norm' | 'input' | 'output' | 'other';

export interface ParameterInput {
  /** Without `.weight`. */
  readonly name: string;
  /** Whether checkpoints call it by its name alone, without `.weight`. */
  readonly isBare?: boolean;
  /** Matrices are [out, in]. */
  readonly shape: readonly number[];
  readonly role: ParameterRole;
  readonly official: Initialiser;
}

/** What recipes depend on beside the parameter. */
export interface RecipeContext {
  readonly dim: number;
  readonly layers: number;
  /** Factor of the embeddings on their way into the residual stream. */
  readonly embeddingScale: number;
  readonly tieEmbeddings: boolean;
}

type Recipe = (parameter: ParameterInput, context: RecipeContext) => Initialiser;

const normal = (deviation: number): Initialiser => ({ kind: 'normal', deviation });

/** Embeddings that enter the stream with unit deviation; shared with the head they stay as they are, for its logits. */
const unitEmbeddings: Recipe = ({ role, official }, { embeddingScale, tieEmbeddings }) =>
  role === 'embedding' && !tieEmbeddings ? normal(1 / embeddingScale) : official;

/**
 * As GPT-2 (Radford et al., 2019): matrices normal with deviation 0.02, those that write to the residual stream divided
 * by sqrt(2 layers); embeddings that enter the stream with unit deviation and a head of deviation dim^-0.5.
 */
const scaledNormal: Recipe = (parameter, context) => {
  const { role } = parameter;
  if (role === 'input') return normal(0.02);
  if (role === 'output') return normal(0.02 / Math.sqrt(2 * context.layers));
  if (role === 'head') return normal(context.dim ** -0.5);
  return unitEmbeddings(parameter, context);
};

export const INITIAL_VALUES = {
  official: ({ official }) => official,
  'unit-embeddings': unitEmbeddings,
  'scaled-normal': scaledNormal,
} as const satisfies Record<string, Recipe>;

export type InitialValues = keyof typeof INITIAL_VALUES;

export const INITIAL_VALUE_NAMES = Object.keys(INITIAL_VALUES) as InitialValues[];

export function norm(name: string, width: number): ParameterInput {
  return { name, shape: [width], role: 'norm', official: { kind: 'ones' } };
}

/** What is added to the rows of the projection `name`: it starts at 0. */
export function bias(name: string, width: number): ParameterInput {
  return {
    name: `${name}.bias`,
    isBare: true,
    shape: [width],
    role: 'other',
    official: { kind: 'uniform', bound: 0 },
  };
}

export function matrix(
  name: string,
  out: number,
  input: number,
  role: ParameterRole = 'input',
): ParameterInput {
  return { name, shape: [out, input], role, official: { kind: 'uniform', bound: input ** -0.5 } };
}

export function xavier(
  name: string,
  out: number,
  input: number,
  gain: number,
  role: ParameterRole = 'input',
): ParameterInput {
  const official: Initialiser = { kind: 'uniform', bound: gain * Math.sqrt(6 / (input + out)) };
  return { name, shape: [out, input], role, official };
}
