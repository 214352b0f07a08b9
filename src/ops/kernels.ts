/**
 * The fused kernels an engine may register, with their inputs, attributes and outputs.
 *
 * An op (`ops/NAME/`) runs the kernel of its name when the current backend has one and its own composition of tfjs
 * ops otherwise; a backend may implement any subset. All tensors are logically float32 unless said otherwise, row-major, and
 * activations are [batch, time, heads, width] ("BTHD"). Kernels must not change their inputs, except those that say
 * "in place". A kernel returns its outputs in the order given here; optional inputs are absent, not null.
 *
 * Letters: B batch, T time, Tq/Tk query/key positions, H heads, Hq/Hkv query and K/V heads, D head width,
 * Dk/Dv key and value width, N rows, V vocabulary, P page size; `...` any leading dimensions.
 */
import * as tf from '../tf.js';
import type {
  AdamWAllAttributes,
  AdamWAttributes,
  CausalAttentionAttributes,
  CompressAttributes,
  CompressedAttentionAttributes,
  CompressedWriteAttributes,
  DeltaAttributes,
  PageWriteAttributes,
  PagedAttentionAttributes,
  RotaryAttributes,
  RotationAttributes,
} from './kernel-attributes.js';

export type * from './kernel-attributes.js';

type Tensors<Names extends string, Optional extends string = never> = Readonly<Record<Names, tf.Tensor>> &
  Readonly<Partial<Record<Optional, tf.Tensor>>>;

interface Kernel<Inputs, Attributes extends object = object> {
  readonly inputs: Inputs;
  readonly attrs: Attributes;
}

export interface Kernels {
  /** y = x * rsqrt(mean(x^2 over the last dimension) + eps) * weight. x [..., D], weight [D]. Output y. */
  RmsNorm: Kernel<Tensors<'x', 'weight'>, { readonly eps: number }>;
  /** Outputs dx, and dWeight if there is a weight. */
  RmsNormGrad: Kernel<Tensors<'dy' | 'x', 'weight'>, { readonly eps: number }>;

  /** The same of rmsNorm(x) and of x itself, whose gradient dResidual is added to dx. Outputs dx, dWeight. */
  PreNormGrad: Kernel<Tensors<'dy' | 'dResidual' | 'x' | 'weight'>, { readonly eps: number }>;

  /** y = silu(gate) * rmsNorm(x), for inference. x [..., D], weight [D], gate and y of as many elements as x. */
  GatedRmsNorm: Kernel<Tensors<'x' | 'gate', 'weight'>, { readonly eps: number }>;

  /**
   * Rotates pairs (a, b) of x [B,T,H,D] by phase = position * frequency: (a cos - b sin, b cos + a sin).
   * `ops/rotary/phases.ts` has the tables. Output of the shape of x.
   */
  Rotary: Kernel<Tensors<'x'>, RotaryAttributes>;
  /** The same of queries and keys, whose numbers of heads may differ. Outputs in the order of the inputs. */
  RotaryPair: Kernel<Tensors<'q' | 'k'>, RotaryAttributes>;

  /** y = silu(a) * b, equal shapes. Output y. */
  SwiGlu: Kernel<Tensors<'a' | 'b'>>;
  /** Outputs da, db. */
  SwiGluGrad: Kernel<Tensors<'dy' | 'a' | 'b'>>;

  /**
   * y = x weightᵀ (+ residual). x [..., in], weight [out, in], residual and y [..., out].
   * With `transposed`, weight is [in, out] and y = x weight: that is how gradients reach x.
   */
  Linear: Kernel<Tensors<'x' | 'weight', 'residual'>, { readonly transposed: boolean }>;
  /**
   * Several projections of one x: inputs x [..., in] and weight0, weight1, … each [out_i, in]; outputs
   * y_i = x weight_iᵀ, `count` of them.
   */
  LinearGroup: Kernel<Readonly<Record<string, tf.Tensor>>, { readonly count: number }>;
  /** Inputs as of `LinearGroup`, and dy0, dy1, …. Outputs dx = Σ dy_i weight_i, and each dWeight_i = dy_iᵀ x. */
  LinearGroupGrad: Kernel<Readonly<Record<string, tf.Tensor>>, { readonly count: number }>;

  /**
   * y = silu(x activatedᵀ) * (x gateᵀ), for inference: no gradient asks for the projections. x [..., in], weights [out, in],
   * y [..., out].
   */
  LinearSwiGlu: Kernel<Tensors<'x' | 'activated' | 'gate'>>;

  /** x with its rows rounded to float8 (`linear/float8.ts`), as the compositions of the kernels below do. Output like x. */
  RoundFloat8: Kernel<Tensors<'x'>>;
  /**
   * In place: rounds the rows of weight [out, in] to float8 (`linear/float8.ts`). The engine may keep one byte an element. No outputs (an
   * empty list).
   */
  KeepFloat8: Kernel<Tensors<'weight'>>;
  /**
   * `Linear` of a weight that is kept in float8 and of x whose rows are rounded to it, for inference. The products are exact; their sums
   * may be kept to fewer bits than float32 has, with relative errors well below those of the rounding.
   */
  LinearFloat8: Kernel<Tensors<'x' | 'weight', 'residual'>>;
  /** `LinearGroup` of weights that are kept in float8, likewise. */
  LinearGroupFloat8: Kernel<Readonly<Record<string, tf.Tensor>>, { readonly count: number }>;
  /** `LinearSwiGlu` likewise; the rows of y are rounded to float8. */
  LinearSwiGluFloat8: Kernel<Tensors<'x' | 'activated' | 'gate'>>;

  /** Rows of weight [V,D] named by ids (int32, any shape [...]), times scale. Output [..., D]. */
  Embedding: Kernel<Tensors<'weight' | 'ids'>, { readonly scale: number }>;
  /** dy [..., D], ids [...]. Output dWeight [V,D]: scale times the sum of the rows of dy that belong to an id. */
  EmbeddingGrad: Kernel<Tensors<'dy' | 'ids'>, { readonly scale: number; readonly vocabSize: number }>;

  /**
   * Softmax attention, causal, grouped heads: query head h reads K/V head floor(h / (Hq/Hkv)).
   * q [B,Tq,Hq,D], k and v [B,Tk,Hkv,D]. Outputs: out [B,Tq,Hq,D]; logSumExp [B,Hq,Tq], the natural logarithm of the
   * sum of exp(scale * score) over the keys a query sees, or [0] where the engine's own CausalAttentionGrad has no use
   * for it. Memory beyond the outputs must not grow with Tq * Tk.
   */
  CausalAttention: Kernel<Tensors<'q' | 'k' | 'v'>, CausalAttentionAttributes>;
  /** Outputs dq, dk, dv. */
  CausalAttentionGrad: Kernel<
    Tensors<'dy' | 'q' | 'k' | 'v' | 'out' | 'logSumExp'>,
    CausalAttentionAttributes
  >;

  /**
   * `CausalAttention` over keys and values in pages, for inference: inputs q [B,Tq,Hq,D], key0, value0, key1, value1, …, each
   * [B,Hkv,P,D]; position p is row p mod P of page floor(p / P). Rows from `length` on are not to be read. Output out
   * [B,Tq,Hq,D].
   */
  PagedAttention: Kernel<Readonly<Record<string, tf.Tensor>>, PagedAttentionAttributes>;
  /**
   * `PagedAttention` with a second output, logSumExp [B,Hq,Tq] as `CausalAttention` has it. Without `isCausal` every query sees
   * all keys.
   */
  PartialPagedAttention: Kernel<
    Readonly<Record<string, tf.Tensor>>,
    PagedAttentionAttributes & { readonly isCausal: boolean }
  >;
  /** `PagedAttention` of q rotated by `Rotary`: an engine without it rotates first. */
  RotatedPagedAttention: Kernel<
    Readonly<Record<string, tf.Tensor>>,
    PagedAttentionAttributes & { readonly rotation: RotationAttributes }
  >;
  /**
   * In place: keyPage[b, h, position + t, :] = keys[b, start + t, h, :] for t < count, and the same of values. Pages
   * [B,H,P,D], keys and values [B,T,H,D]. No outputs (an empty list).
   */
  PageWrite: Kernel<Tensors<'keyPage' | 'valuePage' | 'keys' | 'values'>, PageWriteAttributes>;
  /** `PageWrite` of keys that are rotated by `Rotary`, for a few positions, as in decoding. */
  RotatedPageWrite: Kernel<
    Tensors<'keyPage' | 'valuePage' | 'keys' | 'values'>,
    PageWriteAttributes & { readonly rotation: RotationAttributes }
  >;

  /**
   * In place: codes whole groups of keys and values [B,H,R,D] into a page, whose int32 tensors are keyCodes and valueCodes
   * [B,H,P,words] and, where the type has them, keyScales and valueScales [B,H,P/GROUP,words]; `attention/codes.ts` is the
   * reference. No outputs.
   */
  CompressRows: Kernel<
    Tensors<'keyCodes' | 'valueCodes' | 'keys' | 'values', 'keyScales' | 'valueScales'>,
    CompressAttributes
  >;
  /**
   * In place: the keys and values [B,1,H,D] of a position into row position mod R of recentKeys and recentValues [B,H,R,D];
   * where it begins a group other than the first, the group before it is coded first, as by `CompressRows`, into the page of that
   * group. The page is absent where there is none yet. No outputs.
   */
  CompressedWrite: Kernel<
    Tensors<
      'recentKeys' | 'recentValues' | 'keys' | 'values',
      'keyCodes' | 'valueCodes' | 'keyScales' | 'valueScales'
    >,
    CompressedWriteAttributes
  >;
  /**
   * Attention over a compressed cache, for inference: a query sees the positions of its own group and up to its own in rawKeys
   * and rawValues [B,H,R,D], and those of earlier groups as coded in pages keyCodes0, valueCodes0, keyScales0, valueScales0,
   * keyCodes1, … Output out [B,Tq,Hq,D], of q [B,Tq,Hq,D].
   */
  CompressedAttention: Kernel<Readonly<Record<string, tf.Tensor>>, CompressedAttentionAttributes>;

  /** log sigmoid(x) / normalizer, any shape: the logarithm of gated retention's decay. */
  LogDecay: Kernel<Tensors<'x'>, { readonly normalizer: number }>;
  /** Output dx. */
  LogDecayGrad: Kernel<Tensors<'dy' | 'x'>, { readonly normalizer: number }>;

  /**
   * Gated retention. Per head, S_t = exp(logDecay_t) S_{t-1} + Dk^-0.5 k_tᵀ v_t and output_t = q_t S_t.
   * q, k [B,T,G,Dk], v [B,T,H,Dv], logDecay [B,T,H], state [B,H,Dk,Dv] (absent: zeros); head h has the query and key
   * floor(h / (H/G)). Outputs: output [B,T,H,Dv]; the last S, [B,H,Dk,Dv], which is kept in float32 whatever the storage type.
   */
  GatedRetention: Kernel<Tensors<'q' | 'k' | 'v' | 'logDecay', 'state'>>;
  /**
   * Inputs beside those of the forward kernel: dOutput [B,T,H,Dv], dFinalState [B,H,Dk,Dv], and finalState as the forward
   * kernel returned it. Outputs dq and dk of every head [B,T,H,Dk], whose groups are not summed up, dv, dLogDecay and,
   * always, dState [B,H,Dk,Dv].
   */
  GatedRetentionGrad: Kernel<
    Tensors<'dOutput' | 'dFinalState' | 'q' | 'k' | 'v' | 'logDecay' | 'finalState', 'state'>
  >;
  /**
   * `GatedRetention` of q and k rotated by `Rotary`, with the `LogDecay` of gate [B,T,H], for inference and a few positions,
   * as in decoding. Outputs as of `GatedRetention`.
   */
  RotatedRetention: Kernel<
    Tensors<'q' | 'k' | 'v' | 'gate', 'state'>,
    RotationAttributes & { readonly normalizer: number }
  >;

  /**
   * The gated delta rule. Per head, with k = keyScale k and q = queryScale q, S_t = exp(logDecay_t) S_{t-1} +
   * k_tᵀ beta_t (v_t - exp(logDecay_t) k_t S_{t-1}) and output_t = q_t S_t. q, k [B,T,H,Dk], v [B,T,H,Dv], logDecay and beta
   * [B,T,H], state [B,H,Dk,Dv] (absent: zeros). Outputs: output [B,T,H,Dv]; the last S, [B,H,Dk,Dv], which is kept in float32
   * whatever the storage type.
   */
  GatedDeltaRule: Kernel<Tensors<'q' | 'k' | 'v' | 'logDecay' | 'beta', 'state'>, DeltaAttributes>;
  /**
   * Inputs beside those of the forward kernel: dOutput [B,T,H,Dv], dFinalState [B,H,Dk,Dv], and finalState as the forward
   * kernel returned it. Outputs dq, dk, dv, dLogDecay, dBeta and, always, dState [B,H,Dk,Dv].
   */
  GatedDeltaRuleGrad: Kernel<
    Tensors<'dOutput' | 'dFinalState' | 'q' | 'k' | 'v' | 'logDecay' | 'beta' | 'finalState', 'state'>,
    DeltaAttributes
  >;
  /**
   * a, b [B,T,H], aLog, dtBias [H]. Outputs, both [B,T,H] and kept in float32 whatever the storage type: logDecay =
   * -exp(aLog) softplus(a + dtBias), beta = sigmoid(b).
   */
  DeltaGates: Kernel<Tensors<'a' | 'b' | 'aLog' | 'dtBias'>>;
  /** Outputs da, db, dALog, dDtBias. */
  DeltaGatesGrad: Kernel<Tensors<'a' | 'b' | 'aLog' | 'dtBias' | 'dLogDecay' | 'dBeta'>>;

  /** A copy of x that is kept in float32 whatever the storage type: what is computed from such tensors alone is so too. */
  Float32: Kernel<Tensors<'x'>>;
  /** The float32 values whose bits are x, int32 [...], kept in float32 whatever the storage type. */
  Float32Bits: Kernel<Tensors<'x'>>;

  /**
   * Causal depthwise convolution of K taps, y_t = f(bias + Σ_j weight_j x_{t-K+1+j}), f the identity or silu. x [B,T,D], weight
   * [D,1,K], bias [D], state [B,K-1,D], the inputs before the first (absent: zeros). Outputs: y [B,T,D]; the last K - 1
   * inputs [B,K-1,D].
   */
  ShortConvolution: Kernel<Tensors<'x' | 'weight', 'bias' | 'state'>, { readonly silu: boolean }>;
  /** dOutput [B,T,D], dState [B,K-1,D] of the last inputs. Outputs dx, dWeight, always dState, and dBias where there is a bias. */
  ShortConvolutionGrad: Kernel<
    Tensors<'dOutput' | 'dState' | 'x' | 'weight', 'bias' | 'state'>,
    { readonly silu: boolean }
  >;

  /**
   * Steps and log decays of Mamba-2 in float32 whatever the storage: factor * softplus(x + bias) and -exp(aLog) * softplus(x +
   * bias). x [B,T,H], bias and aLog [H]. Outputs step, logDecay [B,T,H].
   */
  TimeStep: Kernel<Tensors<'x' | 'bias' | 'aLog'>, { readonly factor: number }>;
  /**
   * The state-space layer of Mamba-2 for inference and a few positions, as in decoding: with Δ = softplus(dt + dtBias),
   * S_t = exp(-exp(aLog) Δ_t) S_{t-1} + Δ_t b_tᵀ x_t and output_t = c_t S_t + skip x_t. x [B,T,H,P], dt [B,T,H], b and c
   * [B,T,G,N], dtBias, aLog and skip [H], state [B,H,N,P] (absent: zeros). Outputs: output [B,T,H,P]; the last S, in float32.
   */
  StateSpaceDual: Kernel<Tensors<'x' | 'dt' | 'b' | 'c' | 'dtBias' | 'aLog' | 'skip', 'state'>>;

  /** logits [N,V], targets int32 [N]. Outputs: loss [N] = logSumExp - logits[target], in nats; logSumExp [N]. */
  CrossEntropy: Kernel<Tensors<'logits' | 'targets'>>;
  /** dy [N]. Output dLogits. */
  CrossEntropyGrad: Kernel<Tensors<'dy' | 'logits' | 'targets' | 'logSumExp'>>;

  /**
   * Cross-entropy of x weightᵀ without all logits at once. x [N,D], weight [V,D], targets int32 [N]. Outputs loss [N],
   * logSumExp [N].
   */
  LinearCrossEntropy: Kernel<Tensors<'x' | 'weight' | 'targets'>>;
  /** dy [N]. Outputs dx, dWeight. */
  LinearCrossEntropyGrad: Kernel<Tensors<'dy' | 'x' | 'weight' | 'targets' | 'logSumExp'>>;
  /** As both, with the gradient of each loss known beforehand: weights [N]. Outputs losses [N], dx, dWeight. */
  WeightedCrossEntropy: Kernel<Tensors<'x' | 'weight' | 'targets' | 'weights'>>;

  /**
   * In place on parameter, firstMoment and secondMoment: one AdamW update with gradient * scale (scale: a scalar
   * tensor, absent for 1). No outputs (an empty list).
   */
  AdamW: Kernel<Tensors<'parameter' | 'gradient' | 'firstMoment' | 'secondMoment', 'scale'>, AdamWAttributes>;
  /**
   * `AdamW` of many tensors: inputs parameter0, gradient0, firstMoment0, secondMoment0, parameter1, … and the optional
   * scale, one for all, and rule, float32 [6] of `adamWRule`, which replaces the attributes. A scale or rate that is not a
   * finite number changes nothing.
   */
  AdamWAll: Kernel<Readonly<Record<string, tf.Tensor>>, AdamWAllAttributes>;
  /**
   * Inputs x0, x1, …, `count` of them. Outputs, scalars in float32: the L2 norm of all together; the factor that brings
   * it down to `clip`, which is min(1, clip / norm), 1 if clip is 0, and NaN where the norm is not a finite number.
   */
  ClipScale: Kernel<Readonly<Record<string, tf.Tensor>>, { readonly count: number; readonly clip: number }>;
  /** Output: the sum of the squares of all elements of x, [1]. */
  SumOfSquares: Kernel<Tensors<'x'>>;
}

export type KernelName = keyof Kernels;

/** A fused kernel as an engine writes it; `backend` is the engine's own backend object. */
export type FusedKernel<Name extends KernelName, Backend> = (
  inputs: Kernels[Name]['inputs'],
  attrs: Kernels[Name]['attrs'],
  backend: Backend,
) => tf.TensorInfo | tf.TensorInfo[];

/** Whether a kernel takes such inputs; others are composed. */
type Condition<Name extends KernelName> = (inputs: Kernels[Name]['inputs']) => boolean;

/** By backend and kernel; a kernel without one takes everything. */
const conditions = new Map<string, Condition<never>>();

export const takesInputs = <Name extends KernelName>(
  backendName: string,
  name: Name,
  inputs: Kernels[Name]['inputs'],
): boolean => (conditions.get(`${backendName}/${name}`) as Condition<Name> | undefined)?.(inputs) ?? true;

/** Registers a fused kernel for a backend, in place of one that was there before. */
export function registerFusedKernel<Name extends KernelName, Backend>(
  backendName: string,
  name: Name,
  kernel: FusedKernel<Name, Backend>,
  takes: Condition<Name> = () => true,
): void {
  conditions.set(`${backendName}/${name}`, takes);
  if (tf.getKernel(name, backendName) as tf.KernelConfig | undefined) tf.unregisterKernel(name, backendName);
  tf.registerKernel({
    kernelName: name,
    backendName,
    kernelFunc: ({ inputs, attrs, backend }) =>
      kernel(
        inputs as unknown as Kernels[Name]['inputs'],
        attrs as unknown as Kernels[Name]['attrs'],
        backend as Backend,
      ),
  });
}
