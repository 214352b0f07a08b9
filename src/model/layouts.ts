/**
 * Models as layouts: which mixer each layer has, and whose keys and values it reads. Everything else (parameters, costs,
 * caches, where a prompt token may leave) follows from the list of words that a layout is.
 *
 * A word is the name of a mixer, which is a layer; `memory`, which projects the residual stream to keys and values; or
 * `embeddings`, from which on the stream is the token embeddings again. A `cross` layer reads the keys and values of the
 * nearest `memory` or `attention` before it, a `gated-memory` layer the readout of the nearest layer before it that has one.
 */
import { UsageError } from '../errors.js';
import { parseLayout } from './layout-grammar.js';
import { READ_OUT, REMEMBERED, type MixerName, type SelfDecoderKind } from './mixers/list.js';

export type LayoutWord = MixerName | 'memory' | 'embeddings';

/** What the words of a layout depend on. */
export interface LayoutNumbers {
  readonly layers: number;
  readonly slidingWindow: number | null;
  /** Mixer of constant state, where the layout leaves it open. */
  readonly selfDecoder: SelfDecoderKind;
  /** Layers before `memory`. */
  readonly selfLayers: number;
  /** The words themselves, of a layout without a name. */
  readonly layout: string;
}

export interface LayoutDefinition {
  readonly description: string;
  /** Names of parameters, rotary embedding and scale of the embeddings: those of the official YOCO code or of Llama. */
  readonly conventions: 'yoco' | 'llama';
  /** Configuration fields beside `layers` that it takes. */
  readonly takes: readonly ('selfDecoder' | 'selfLayers' | 'layout')[];
  /** `layers` must be a multiple of it. */
  readonly period: number;
  /** Query heads to a key and value head, where the name says how many; `all` of them, or a number that divides `heads`. */
  readonly group?: number | 'all';
  readonly words: (numbers: LayoutNumbers) => readonly LayoutWord[];
}

const repeat = (times: number, ...words: LayoutWord[]): LayoutWord[] =>
  Array.from({ length: times }, () => words).flat();

function layout(
  conventions: 'yoco' | 'llama',
  description: string,
  words: LayoutDefinition['words'],
  { takes = [], period = 1, group }: Partial<Pick<LayoutDefinition, 'takes' | 'period' | 'group'>> = {},
): LayoutDefinition {
  return { conventions, description, words, takes, period, ...(group && { group }) };
}

const everyAttention: LayoutDefinition['words'] = ({ layers, slidingWindow }) =>
  repeat(layers, slidingWindow === null ? 'attention' : 'sliding-window');

/** Layers of a cross-decoder in which gated memory units and cross-attention take turns. */
const gatedCross = (count: number): LayoutWord[] =>
  Array.from({ length: count }, (_, i) => (i % 2 === 0 ? 'gated-memory' : 'cross'));

/** The layouts that have a name, which is the `architecture` of a configuration. */
export const LAYOUTS = {
  /** You Only Cache Once, arXiv 2405.05254. */
  yoco: layout(
    'yoco',
    'a self-decoder of constant state, then a cross-decoder over one set of keys and values',
    ({ layers, selfLayers, selfDecoder }) => [
      ...repeat(selfLayers, selfDecoder),
      'memory',
      ...repeat(layers - selfLayers, 'cross'),
    ],
    { takes: ['selfDecoder', 'selfLayers'] },
  ),
  /** The baseline: a decoder-only Transformer as in Llama. */
  transformer: layout('llama', 'attention in every layer', everyAttention),
  /** Ainslie et al., arXiv 2305.13245. */
  gqa: layout('llama', 'the Transformer, four query heads to a key and value head', everyAttention, {
    group: 4,
  }),
  /** Shazeer, arXiv 1911.02150. */
  mqa: layout('llama', 'the Transformer with a single key and value head', everyAttention, {
    group: 'all',
  }),
  /** YOCO with the gated memory units of SambaY, arXiv 2507.06607. */
  'yoco-gmu': layout(
    'yoco',
    'YOCO with a gated memory unit in place of every second cross-attention layer',
    ({ layers, selfLayers, selfDecoder }) => [
      ...repeat(selfLayers, selfDecoder),
      'memory',
      ...gatedCross(layers - selfLayers),
    ],
    { takes: ['selfDecoder', 'selfLayers'] },
  ),
  /** Ren et al., arXiv 2507.06607, with Mamba-2 for Mamba-1 and the `memory` of YOCO for a layer of attention. */
  sambay: layout(
    'yoco',
    'Mamba-2 and sliding windows in turn, then gated memory units and cross-attention in turn',
    ({ layers, selfLayers }) => [
      ...Array.from({ length: selfLayers }, (_, i): LayoutWord =>
        i % 2 === 0 ? 'mamba-2' : 'sliding-window',
      ),
      'memory',
      ...gatedCross(layers - selfLayers),
    ],
    { takes: ['selfLayers'] },
  ),
  /** Table 6 of the YOCO paper. */
  'unstacked-yoco': layout(
    'yoco',
    'YOCO whose cross-decoder begins with the embeddings, not with the output of the self-decoder',
    ({ layers, selfLayers, selfDecoder }) => [
      ...repeat(selfLayers, selfDecoder),
      'memory',
      'embeddings',
      ...repeat(layers - selfLayers, 'cross'),
    ],
    { takes: ['selfDecoder', 'selfLayers'] },
  ),
  /** Table 6 of the YOCO paper. */
  interleaved: layout(
    'yoco',
    'layers of constant state and of attention in turn',
    ({ layers, selfDecoder }) => repeat(layers / 2, selfDecoder, 'attention'),
    { takes: ['selfDecoder'], period: 2 },
  ),
  /** Table 5 of the YOCO paper, as is `retnet`. */
  gretnet: layout('yoco', 'gated retention in every layer', ({ layers }) =>
    repeat(layers, 'gated-retention'),
  ),
  retnet: layout('yoco', 'retention in every layer', ({ layers }) => repeat(layers, 'retention')),
  /** Dao and Gu, arXiv 2405.21060. */
  mamba2: layout('yoco', 'Mamba-2 in every layer', ({ layers }) => repeat(layers, 'mamba-2')),
  /** Yang et al., arXiv 2412.06464. */
  'gated-deltanet': layout('yoco', 'Gated DeltaNet in every layer', ({ layers }) =>
    repeat(layers, 'gated-delta-net'),
  ),
  /** Cross-layer attention, Brandon et al., arXiv 2405.12981: CLA2 and CLA3. */
  cla: layout(
    'llama',
    'every second layer reads the keys and values of the layer before it',
    ({ layers }) => repeat(layers / 2, 'attention', 'cross'),
    { period: 2 },
  ),
  cla3: layout(
    'llama',
    'two of three layers read the keys and values of the one before them',
    ({ layers }) => repeat(layers / 3, 'attention', 'cross', 'cross'),
    { period: 3 },
  ),
  custom: layout('yoco', 'the layout that is written out', ({ layout }) => parseLayout(layout), {
    takes: ['layout'],
  }),
} as const satisfies Record<string, LayoutDefinition>;

/** The name of a layout, or `custom`. */
export type Architecture = keyof typeof LAYOUTS;

export const ARCHITECTURES = Object.keys(LAYOUTS) as Architecture[];

/** Layouts that need no words. */
export const LAYOUT_NAMES = ARCHITECTURES.filter((name) => name !== 'custom');

export interface LayoutPart {
  readonly word: LayoutWord;
  /** Number of the layer among the layers; null for `memory` and `embeddings`. */
  readonly layer: number | null;
  /** Number of the part whose keys and values it reads, its own or an earlier one's; null where it reads none. */
  readonly source: number | null;
  /** Whether later parts read its keys and values. */
  readonly isRead: boolean;
  /** Number of the part whose readout it reads; null where it reads none. */
  readonly readsOut: number | null;
  /** Whether later parts read its readout. */
  readonly isReadOut: boolean;
}

export interface Layout {
  readonly parts: readonly LayoutPart[];
  /** Parts that a prompt token needs: up to the last one that remembers anything. Those after it run where logits are asked for. */
  readonly exit: number;
  /** Layers among them. */
  readonly exitLayers: number;
}

/** What a part remembers. */
export const remembered = (word: LayoutWord): 'context' | 'state' | 'nothing' =>
  word === 'memory' ? 'context' : word === 'embeddings' ? 'nothing' : REMEMBERED[word];

/**
 * Finds who reads whom, and where a prompt token may leave.
 * @throws UsageError for words that cannot stand where they stand
 */
export function resolveLayout(words: readonly LayoutWord[]): Layout {
  const isLayer = (word: LayoutWord): boolean => word !== 'memory' && word !== 'embeddings';
  let layers = 0;
  let latest: number | null = null;
  let readable: number | null = null;
  const parts = words.map((word, i) => {
    if (READ_OUT.includes(word)) readable = i;
    if (word === 'gated-memory' && readable === null) {
      throw new UsageError(
        `layout: part ${i + 1} is 'gated-memory', but there is no layer before it whose state it could read: ${READ_OUT.join(', ')}`,
      );
    }
    if (remembered(word) === 'context') latest = i;
    if (word === 'cross' && latest === null) {
      throw new UsageError(
        `layout: part ${i + 1} is 'cross', but there is no 'memory' or 'attention' before it to read`,
      );
    }
    const source = word === 'cross' || remembered(word) === 'context' ? latest : null;
    const readsOut: number | null = word === 'gated-memory' ? readable : null;
    return { word, source, readsOut, layer: isLayer(word) ? layers++ : null };
  });
  const sources = new Set(parts.filter(({ word }) => word === 'cross').map(({ source }) => source));
  const readOut = new Set(parts.map(({ readsOut }) => readsOut));
  const unread = words.findIndex((word, i) => word === 'memory' && !sources.has(i));
  if (unread >= 0) throw new UsageError(`layout: no 'cross' reads the 'memory' of part ${unread + 1}`);
  if (words[0] === 'embeddings' || words.at(-1) === 'embeddings') {
    throw new UsageError("layout: 'embeddings' must stand between other parts");
  }
  if (layers === 0) throw new UsageError('layout: there are no layers');
  const exit = words.findLastIndex((word) => remembered(word) !== 'nothing') + 1;
  return {
    parts: parts.map((part, i) => ({ ...part, isRead: sources.has(i), isReadOut: readOut.has(i) })),
    exit,
    exitLayers: words.slice(0, exit).filter(isLayer).length,
  };
}
