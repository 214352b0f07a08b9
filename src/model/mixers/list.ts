/**
 * The mixers by name, and what each remembers of earlier positions: one line a mixer. Flags, layouts and help texts read
 * this list, which loads no engine; `index.ts` has their definitions.
 *
 * - `context`: keys and values of all positions, which grow and which later layers may read;
 * - `state`: something of constant size;
 * - `nothing`: it reads the keys and values, or the readout, of an earlier layer.
 */
export const REMEMBERED = {
  'gated-retention': 'state',
  'sliding-window': 'state',
  retention: 'state',
  'mamba-2': 'state',
  'gated-delta-net': 'state',
  attention: 'context',
  cross: 'nothing',
  'gated-memory': 'nothing',
} as const;

/** Mixers that read their state by a query, which `gated-memory` may multiply. */
export const READ_OUT: readonly string[] = [
  'gated-retention',
  'retention',
  'mamba-2',
  'gated-delta-net',
] satisfies (keyof typeof REMEMBERED)[];

export type MixerName = keyof typeof REMEMBERED;

export const MIXER_NAMES = Object.keys(REMEMBERED) as MixerName[];

/** Mixers of constant state: what a self-decoder can be made of. */
export type SelfDecoderKind = {
  [Name in MixerName]: (typeof REMEMBERED)[Name] extends 'state' ? Name : never;
}[MixerName];

export const SELF_DECODERS = MIXER_NAMES.filter(
  (name): name is SelfDecoderKind => REMEMBERED[name] === 'state',
);
