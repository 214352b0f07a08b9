/** The definitions of the names of `list.ts`. */
import { attention } from './attention.js';
import { cross } from './cross.js';
import { gatedMemory } from './gated-memory.js';
import { gatedDeltaNet } from './gated-delta-net.js';
import { gatedRetention } from './gated-retention.js';
import type { MixerName } from './list.js';
import { mamba2 } from './mamba-2.js';
import type { MixerDefinition } from './mixer.js';
import { retention } from './retention.js';
import { slidingWindow } from './sliding-window.js';

const MIXERS = {
  'gated-retention': gatedRetention,
  'sliding-window': slidingWindow,
  retention,
  'mamba-2': mamba2,
  'gated-delta-net': gatedDeltaNet,
  attention,
  cross,
  'gated-memory': gatedMemory,
} as const satisfies Record<MixerName, unknown>;

type FieldsOf<D> = D extends { fields(...input: never[]): infer F } ? F : never;
type Intersection<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void ? I : never;

/** The fields of all mixers; a configuration has those of the mixers in its layout. */
export type MixerFields = Partial<Intersection<FieldsOf<(typeof MIXERS)[MixerName]>>>;

/** A mixer's own definition, which finds its fields in the configuration that it has read itself. */
export const mixer = (name: MixerName): MixerDefinition<MixerFields> => MIXERS[name];
