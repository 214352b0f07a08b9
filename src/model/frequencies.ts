/**
 * Rotary frequencies, in radians per position, rounded to float32 as they were when checkpoints were trained; phases
 * are formed from them in float64. Equal arguments give the same array, by which the tables of phases are cached.
 */
import type { RopeScaling } from './rope-scaling.js';

const known = new Map<string, Float64Array>();

function once(key: string, compute: () => Float64Array): Float64Array {
  const found = known.get(key) ?? compute();
  known.set(key, found);
  return found;
}

/**
 * YOCO: 1 / theta^linspace(0, 1, headDim/2). The steps below reproduce PyTorch's float32 arithmetic bit for bit for
 * heads of 16 and 32; wider ones may differ in the last bit.
 */
export function yocoFrequencies(headDim: number, theta: number): Float64Array {
  const f = Math.fround;
  const pairs = headDim / 2;
  return once(`yoco ${headDim} ${theta}`, () => {
    const step = pairs > 1 ? f(1 / (pairs - 1)) : 0;
    return Float64Array.from({ length: pairs }, (_, i) => {
      const exponent = i < pairs / 2 ? f(step * i) : f(1 - f(step * (pairs - 1 - i)));
      return f(1 / f(theta ** exponent));
    });
  });
}

/** Llama: theta^(-2i / headDim), stretched by `scaling` where a checkpoint asks for it. */
export function transformerFrequencies(
  headDim: number,
  theta: number,
  scaling: RopeScaling | null,
): Float64Array {
  return once(`transformer ${headDim} ${theta} ${JSON.stringify(scaling)}`, () =>
    Float64Array.from({ length: headDim / 2 }, (_, i) =>
      Math.fround(scaled(theta ** ((-2 * i) / headDim), scaling)),
    ),
  );
}

/**
 * `linear` divides every frequency by the factor (Chen et al., arXiv 2306.15595). `llama3` does so for wavelengths beyond
 * originalContext / lowFrequencyFactor, leaves those below originalContext / highFrequencyFactor, and blends between
 * (Llama 3.1 model card and Hugging Face `_compute_llama3_parameters`).
 */
function scaled(frequency: number, scaling: RopeScaling | null): number {
  if (scaling === null) return frequency;
  if (scaling.type === 'linear') return frequency / scaling.factor;
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContext } = scaling;
  const turns = (originalContext * frequency) / (2 * Math.PI);
  const kept = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  const blend = Math.min(1, Math.max(0, kept));
  return blend * frequency + ((1 - blend) * frequency) / factor;
}
