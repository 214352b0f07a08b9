/**
 * Configurations by name. Most names stand for a size that both architectures have; `yoco-3b` and `transformer-3b`
 * belong to one.
 *
 * Sources. `yoco-3b` is the architecture `yoco_3b` of the official code (microsoft/unilm, YOCO/yoco/models/yoco.py),
 * `transformer-3b` its baseline. Widths, depths and attention heads of the scaling study (160m to 13b) are those of the
 * paper's Table 8, as are heads of 256 in gated retention and a feed-forward of 3 dim (YOCO) and 8/3 dim (Transformer,
 * rounded up to a multiple of 256 as in Llama). No heads are grouped. A sliding window has the attention heads of its size.
 *
 * `30b` and `65b` are sizes of the paper's Fig. 8, which gives bytes of keys and values per token: 64 and 80 times fewer
 * for YOCO, which is one set instead of one per layer, and 8 KiB at 65b, which is 16 K/V heads of 128 in 16 bits.
 * The paper gives no widths for them: `65b` has width, depth and heads of Llama-65B, `30b` the width that 64 layers
 * need, and their feed-forward networks bring both architectures to the named size.
 */
import { UsageError } from '../errors.js';
import { createConfig, type ConfigInput, type ModelConfig } from './config.js';
import { type Architecture, LAYOUT_NAMES, type LayoutDefinition, LAYOUTS } from './layouts.js';

/** Vocabulary of the `bytes` tokenizer: 256 bytes, end of text, padded to a multiple of 8. */
export const BYTE_VOCABULARY = 264;

/** tiktoken's cl100k_base (100,277 with its special tokens) padded as in the official code. */
export const CL100K_VOCABULARY = 100288;

export interface Preset {
  readonly description: string;
  /** Window of the sliding-window self-decoder, when that is chosen. */
  readonly slidingWindow: number;
  /** Heads of that self-decoder. Default: `selfHeads`, as every self-decoder. */
  readonly windowHeads?: number;
  /** Sizes of YOCO and of the Transformer; other layouts take that of the one whose conventions they have. */
  readonly configs: Readonly<Partial<Record<'yoco' | 'transformer', ConfigInput>>>;
}

interface ByteSize {
  dim: number;
  layers: number;
  hiddenDim: number;
  heads: number;
  kvHeads: number;
}

/** Small sizes over bytes: the same numbers serve both architectures. */
function bytePreset(description: string, size: ByteSize): Preset {
  const input = { ...size, vocabSize: BYTE_VOCABULARY };
  return { description, slidingWindow: 128, configs: { yoco: input, transformer: input } };
}

function studyPreset(parameters: string, dim: number, layers: number, heads: number): Preset {
  const size = { dim, layers, heads, kvHeads: heads, vocabSize: CL100K_VOCABULARY };
  return {
    description: `${parameters} parameters, scaling study`,
    slidingWindow: 1024,
    windowHeads: heads,
    configs: {
      yoco: { ...size, hiddenDim: 3 * dim, selfHeads: dim / 256 },
      transformer: { ...size, hiddenDim: Math.ceil((8 * dim) / 3 / 256) * 256 },
    },
  };
}

/** Vocabulary of the ladder's tokenizer, which `train` replaces by that of another. */
const LADDER_VOCABULARY = 16384;

/** A rung of our own scaling study, sized for one GPU: as the paper's, with heads of 64 and shared embeddings. */
function ladderPreset(parameters: string, dim: number, layers: number, selfHeads: number): Preset {
  const heads = dim / 64;
  const size = { dim, layers, heads, kvHeads: heads, vocabSize: LADDER_VOCABULARY, tieEmbeddings: true };
  return {
    description: `${parameters} parameters without embeddings, for comparisons on one GPU`,
    slidingWindow: 1024,
    configs: {
      yoco: { ...size, hiddenDim: 3 * dim, selfHeads },
      transformer: { ...size, hiddenDim: Math.ceil((8 * dim) / 3 / 64) * 64 },
    },
  };
}

const SIZE_30B = { dim: 6144, layers: 64, heads: 48, kvHeads: 16, vocabSize: CL100K_VOCABULARY };
const SIZE_65B = { dim: 8192, layers: 80, heads: 64, kvHeads: 16, vocabSize: CL100K_VOCABULARY };
const SIZE_3B = {
  dim: 3072,
  layers: 26,
  hiddenDim: 8192,
  heads: 24,
  kvHeads: 8,
  vocabSize: CL100K_VOCABULARY,
};

export const PRESETS: Readonly<Record<string, Preset>> = {
  pico: bytePreset('0.2 million parameters over bytes, for tests', {
    dim: 64,
    layers: 4,
    hiddenDim: 192,
    heads: 2,
    kvHeads: 1,
  }),
  nano: bytePreset('1.7 million parameters over bytes, for demonstrations', {
    dim: 128,
    layers: 8,
    hiddenDim: 384,
    heads: 2,
    kvHeads: 1,
  }),
  tiny: bytePreset('7 million parameters over bytes, for two CPU cores', {
    dim: 256,
    layers: 8,
    hiddenDim: 768,
    heads: 4,
    kvHeads: 2,
  }),
  'ladder-2m': ladderPreset('2 million', 192, 4, 3),
  'ladder-8m': ladderPreset('8 million', 320, 6, 5),
  'ladder-25m': ladderPreset('25 million', 512, 8, 4),
  'ladder-60m': ladderPreset('60 million', 640, 12, 5),
  '160m': studyPreset('160 million', 768, 12, 12),
  '400m': studyPreset('400 million', 1024, 24, 16),
  '830m': studyPreset('830 million', 1536, 24, 12),
  '1.4b': studyPreset('1.4 billion', 2048, 24, 16),
  '2.7b': studyPreset('2.7 billion', 2560, 32, 20),
  '6.8b': studyPreset('6.8 billion', 4096, 32, 32),
  '13b': studyPreset('13 billion', 5120, 40, 40),
  '30b': {
    description: '30 billion parameters with grouped heads, for the analytic tables',
    slidingWindow: 1024,
    configs: {
      yoco: { ...SIZE_30B, hiddenDim: 17664, selfHeads: 24 },
      transformer: { ...SIZE_30B, hiddenDim: 19456 },
    },
  },
  '65b': {
    description: '65 billion parameters with grouped heads, for the analytic tables',
    slidingWindow: 1024,
    configs: {
      yoco: { ...SIZE_65B, hiddenDim: 23552, selfHeads: 32 },
      transformer: { ...SIZE_65B, hiddenDim: 25856 },
    },
  },
  'yoco-3b': {
    description: '3 billion parameters, the released YOCO',
    slidingWindow: 1024,
    configs: { yoco: { ...SIZE_3B, selfHeads: 24 } },
  },
  'transformer-3b': {
    description: '3 billion parameters, the baseline of yoco-3b',
    slidingWindow: 1024,
    configs: { transformer: SIZE_3B },
  },
};

export function presetNames(): string[] {
  return Object.keys(PRESETS);
}

/** The size that a layout takes from a preset. */
function sizeFor(preset: Preset, architecture: Architecture): ConfigInput | undefined {
  return preset.configs[LAYOUTS[architecture].conventions === 'yoco' ? 'yoco' : 'transformer'];
}

/**
 * The configuration of a preset.
 * @param overrides replace fields of the preset; `selfDecoder: 'sliding-window'` alone takes the preset's window, and so do
 *   `sambay` and a written-out layout with such a layer; `layout` brings its own number of layers
 * @throws UsageError for an unknown name, or a name that belongs to the other architecture
 */
export function presetConfig(
  name: string,
  architecture: Architecture,
  overrides: Omit<ConfigInput, 'architecture'> = {},
): ModelConfig {
  const preset = Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (preset === undefined) {
    throw new UsageError(`unknown preset '${name}': the presets are ${presetNames().join(', ')}`);
  }
  const size = sizeFor(preset, architecture);
  if (size === undefined) {
    const other = Object.keys(preset.configs).join(', ');
    throw new UsageError(`preset '${name}' has no architecture '${architecture}': it is for ${other}`);
  }
  const isWindowed =
    overrides.selfDecoder === 'sliding-window' ||
    overrides.layout?.includes('sliding-window') === true ||
    architecture === 'sambay';
  const window =
    isWindowed && overrides.slidingWindow === undefined ? { slidingWindow: preset.slidingWindow } : {};
  const hasOwnHeads =
    preset.windowHeads !== undefined &&
    size.selfHeads !== undefined &&
    (overrides.selfDecoder === 'sliding-window' || architecture === 'sambay');
  const selfHeads = hasOwnHeads ? { selfHeads: preset.windowHeads } : {};
  const layers = overrides.layout === undefined ? {} : { layers: undefined };
  const { group }: LayoutDefinition = LAYOUTS[architecture];
  const kvHeads = group === undefined ? {} : { kvHeads: undefined };
  return createConfig({
    ...size,
    ...selfHeads,
    ...window,
    ...layers,
    ...kvHeads,
    ...overrides,
    architecture,
  });
}

/** The architectures a preset exists for. */
export function presetArchitectures(name: string): Architecture[] {
  const preset = PRESETS[name];
  return preset === undefined
    ? []
    : LAYOUT_NAMES.filter((architecture) => {
        const { layers, heads } = sizeFor(preset, architecture) ?? {};
        const { period, group }: LayoutDefinition = LAYOUTS[architecture];
        if (layers === undefined || heads === undefined) return false;
        return layers % period === 0 && (typeof group !== 'number' || heads % group === 0);
      });
}
