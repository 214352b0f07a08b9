/** From a layout to what computes it: the parts of a model in order, each with its parameters. */
import type { Communicator } from '../distributed/communicator.js';
import { type ModelConfig, headDim, layoutOf } from './config.js';
import { type Conventions, conventionsOf } from './conventions.js';
import { type LayoutPart, remembered } from './layouts.js';
import type { Division } from './divided-runs.js';
import { KeyValueProjection } from './layers/key-value-projection.js';
import { Layer, type LayerWeights } from './layers/layer.js';
import type { Shared } from './layers/recomputed-layer.js';
import { NO_READOUT, Readout } from './layers/readout.js';
import { crossRotation } from './mixers/cross.js';
import { mixer } from './mixers/index.js';
import type { MixerName } from './mixers/list.js';
import type { WeightOf } from './mixers/mixer.js';
import { MEMORY_NAMES, partPrefixes } from './parameters.js';
import { divideMemory, shareOfRank } from './state/divided.js';
import type { Memory, MemoryOptions } from './state/memory.js';
import { keyValueMemory } from './state/pages.js';
import { PresentKeys } from './state/present.js';
import { dividePresent } from './state/present-divided.js';
import type { Weights } from './weights.js';
import type * as tf from '../tf.js';

/** A layer, YOCO's `memory`, or the place where the residual stream is the embeddings again. */
export type PartWork =
  | { readonly kind: 'layer'; readonly layer: Layer }
  | { readonly kind: 'memory'; readonly projection: KeyValueProjection }
  | { readonly kind: 'embeddings' };

export interface Part {
  readonly work: PartWork;
  /** Number of the memory that it keeps or reads, among those of the model; null for none. */
  readonly memory: number | null;
  /** Number of the part whose readout it reads, or its own. */
  readonly readout: number;
  readonly shares: Pick<Shared, 'reads' | 'offers'>;
}

export interface Parts {
  readonly list: readonly Part[];
  /** As in `Layout`. */
  readonly exit: number;
  /** How ranks divide sequences before the exit, where something may be handed from slice to slice, and after it. */
  readonly divisions: readonly [before: Division, after: Division];
  /** Empty memories of a cache. */
  memories(options: MemoryOptions): Memory[];
  /** Empty memories of a pass over whole sequences. */
  present(): Memory[];
  /** Empty readouts of a pass, one for every part. */
  readouts(): Readout[];
}

export function buildParts(config: ModelConfig, weights: Weights, ranks: Communicator): Parts {
  const conventions = conventionsOf(config);
  const layout = layoutOf(config);
  const prefixes = partPrefixes(layout, conventions);
  const keepers = layout.parts.filter(({ word }) => remembered(word) !== 'nothing');
  const memoryOf = (part: LayoutPart): number | null => {
    const keeper = part.source === null ? part : (layout.parts[part.source] as LayoutPart);
    const found = keepers.indexOf(keeper);
    return found < 0 ? null : found;
  };
  const attendsOnly = keepers.every(({ word, isRead }) => {
    const memory = presentFor(word as Keeper, config, isRead);
    return memory instanceof PresentKeys && memory.window === null;
  });
  return {
    list: layout.parts.map((part, i) => ({
      work: workOf(part, config, conventions, (name) => weights.of(`${prefixes[i] ?? ''}.${name}`)),
      memory: memoryOf(part),
      readout: part.readsOut ?? i,
      shares: sharesOf(part),
    })),
    exit: layout.exit,
    divisions: attendsOnly
      ? ['zigzag', 'zigzag']
      : ['slice', layout.exit < layout.parts.length ? 'zigzag' : 'slice'],
    memories(options) {
      const own = ranks.size === 1 ? options : shareOfRank(options, ranks);
      const memories = keepers.map(({ word }) => memoryFor(word as Keeper, config, own));
      return ranks.size === 1 ? memories : memories.map((memory) => divideMemory(memory, ranks));
    },
    present() {
      const memories = keepers.map(({ word, isRead }) => presentFor(word as Keeper, config, isRead));
      return ranks.size === 1 ? memories : memories.map((memory) => dividePresent(memory, ranks));
    },
    readouts: () => layout.parts.map(({ isReadOut }) => (isReadOut ? new Readout(true) : NO_READOUT)),
  };
}

function sharesOf({ word, readsOut, isRead, isReadOut }: LayoutPart): Part['shares'] {
  return {
    reads: word === 'cross' ? 'keys' : readsOut === null ? 'nothing' : 'readout',
    offers: isRead ? 'keys' : isReadOut ? 'readout' : 'nothing',
  };
}

/** Words of parts that remember. */
type Keeper = MixerName | 'memory';

function memoryFor(word: Keeper, config: ModelConfig, options: MemoryOptions): Memory {
  const made =
    word === 'memory'
      ? keyValueMemory({ ...options, kvHeads: config.kvHeads, headDim: headDim(config) })
      : mixer(word).memory?.(config, options);
  return made ?? missing(word);
}

function presentFor(word: Keeper, config: ModelConfig, isRead: boolean): Memory {
  const made = word === 'memory' ? new PresentKeys(isRead) : mixer(word).present?.(config, isRead);
  return made ?? missing(word);
}

function missing(word: Keeper): never {
  throw new TypeError(`mixer '${word}' is listed as one that remembers, but makes no memory`);
}

function workOf(
  { word }: LayoutPart,
  config: ModelConfig,
  conventions: Conventions,
  weight: WeightOf,
): PartWork {
  if (word === 'embeddings') return { kind: 'embeddings' };
  const { normEps, kvHeads } = config;
  if (word === 'memory') {
    const own = {
      key: weight(MEMORY_NAMES.key),
      value: weight(MEMORY_NAMES.value),
      norm: weight(MEMORY_NAMES.norm),
    };
    const rotation = crossRotation(config, conventions);
    return { kind: 'memory', projection: new KeyValueProjection(own, kvHeads, rotation, normEps) };
  }
  const built = mixer(word).build(config, (name) => weight(conventions.mixer(name)), conventions);
  const of = (part: keyof LayerWeights): tf.Variable => weight(conventions.layer[part]);
  const own: LayerWeights = {
    mixerNorm: of('mixerNorm'),
    activated: of('activated'),
    gate: of('gate'),
    out: of('out'),
    feedForwardNorm: of('feedForwardNorm'),
  };
  return { kind: 'layer', layer: new Layer(built, own, normEps) };
}
